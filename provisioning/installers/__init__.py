"""Installers of overclouds: what makes an OpenStack of claimed nodes. One module, one PLUGIN.

An installer is pure: it is given facts and answers with files; it calls nobody. Where it has
stages, Seed runs them by ansible-runner, one after the other (provisioning/overcloud_stages.py).
Where it has none, it is a format: people take its files and run it themselves.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

from provisioning.kinds import DataDisk, Fault
from provisioning.seats import HandOutNic
from provisioning.targets import PartSpec

Role = Literal["control", "network", "compute", "storage", "monitoring"]
ROLES: Final[tuple[Role, ...]] = ("control", "network", "compute", "storage", "monitoring")
Use = Literal["api", "tunnel", "storage", "external"]
"""What a network is for: the roles of provisioning.network_doc, but for network boot."""
USES: Final[tuple[Use, ...]] = ("api", "tunnel", "storage", "external")


@dataclass(frozen=True, slots=True)
class NetFacts:
    """A network that overclouds use. vlan: its tag, 0 for none. mtu: bytes.

    cidr: of its IPv4 subnet, else its IPv6 one; empty: it has none, so nodes have no address there.
    pools: "first-last", whence Seed gives nodes their addresses; vips: name -> address, outside of
    these. dns, ntp: servers. domain: that is searched.
    """

    name: str
    vlan: int = 0
    mtu: int = 1500
    cidr: str = ""
    gateway: str = ""
    pools: tuple[str, ...] = ()
    vips: dict[str, str] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """How a node is in a network. interface: what has it there by name: bridge, VLAN, bond or NIC.

    address: with its prefix length; empty: it has none. bridge: its name, where `interface` is one.
    tagged: it comes with the network's VLAN tag on `link`, a bond's or NIC's name. nics: names of
    the NICs of that link; bond_mode: as networkd says it; empty: it is no bond.
    """

    interface: str
    address: str = ""
    link: str = ""
    bridge: str = ""
    tagged: bool = False
    nics: tuple[str, ...] = ()
    bond_mode: str = ""

    @property
    def bare(self) -> str:
        """The address without its prefix length."""
        return self.address.partition("/")[0]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node of an overcloud. name: its host name; node_name: what Ironic and the rack call it.

    roles: the group it was asked for in comes first; what has no group of its own is there too.
    reached: by which address the Seed machine logs in; host_keys: OpenSSH public keys of its proof.
    Both are empty in a plan. wires: of networks it is in. nics: with MAC, switch and port.
    disks: those that were asked for beside the root. memory_mib: MiB. unit: 0: in no plan.
    virtualization: whether its CPU runs virtual machines (vmx, svm); None: nobody told.
    kernel_args: what it was asked to boot with beside the image's own.
    """

    name: str
    roles: tuple[Role, ...]
    node_uuid: str
    node_name: str = ""
    reached: str = ""
    host_keys: tuple[str, ...] = ()
    wires: dict[Use, Wire] = field(default_factory=dict)
    nics: tuple[HandOutNic, ...] = ()
    disks: tuple[DataDisk, ...] = ()
    cpus: int = 0
    memory_mib: int = 0
    cpu_arch: str = ""
    site: str = ""
    row: str = ""
    rack: str = ""
    unit: int = 0
    feed: str = ""
    resource_class: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    traits: tuple[str, ...] = ()
    virtualization: bool | None = None
    kernel_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OvercloudFacts:
    """What an installer is told, as far as it is known: addresses are, from the moment of the hold.

    release: as asked for, e.g. "2025.1"; empty: the installer's own. vips: "internal", and
    "external" where there is an external one, bare. networks: use -> network. nodes: in the order
    of ROLES. services: beyond the installer's minimum, e.g. "horizon". options: the installer's
    own. registry: HOST[:PORT] for container images; empty: the installer's. dhcp: ranges that Seed
    itself serves by DHCP, "first-last": nothing of an overcloud may serve there.
    leaving: nodes that are to be given back; none of `nodes`.
    lent: servers that its own Ironic has of Seed (provisioning/lent.py). wishes: what people say to
    a row of provisioning/gives, by the row's name.
    """

    id: str
    name: str
    release: str
    vips: dict[str, str]
    networks: dict[Use, NetFacts]
    nodes: tuple[NodeFacts, ...]
    services: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    registry: str = ""
    dhcp: tuple[str, ...] = ()
    leaving: tuple[NodeFacts, ...] = ()
    lent: tuple[NodeFacts, ...] = ()
    wishes: dict[str, Any] = field(default_factory=dict)

    def of(self, role: Role) -> tuple[NodeFacts, ...]:
        """The nodes that have this role."""
        return tuple(node for node in self.nodes if role in node.roles)


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of ansible-runner. playbook: below the project. also: files of the run's folder that
    only this stage has (e.g. env/extravars). seconds: it is ended after these.

    tells: the name of the task whose standard output, one line of JSON, is the stage's result.
    """

    name: str
    playbook: str
    also: tuple[PartSpec, ...] = ()
    seconds: int = 3600
    tells: str = ""


FILE: Final = "{file}"
"""The word of a program's argv in whose place its file's path is put."""


@dataclass(frozen=True, slots=True)
class Program:
    """What makes a secret, once, as an overcloud is sealed: installer_programs.py runs it.

    secret: its name. template: what the file has before, below the project. argv: its program lies
    beside ansible-runner; it changes FILE, whose content is the secret. It is ended after `seconds`
    of its own time.
    """

    secret: str
    template: str
    argv: tuple[str, ...]
    seconds: int = 600


class Installer(Protocol):
    """An overcloud's installer, or a format for one.

    name: as people say it, e.g. "kolla-ansible". roles: those that it needs a node for; what people
    give no group for is on the control nodes. services: that it knows beyond its minimum.
    environment: the section of seed.toml's [installers] that says where its ansible-runner is;
    empty: it has no stages.
    """

    name: str
    services: frozenset[str]
    environment: str

    def faults(self, facts: OvercloudFacts) -> list[Fault]:
        """What it cannot do with these facts, field by field as people wrote it; empty: nothing.

        Asked before any disk is touched.
        """

    def secrets(self, facts: OvercloudFacts) -> dict[str, str]:
        """Made once per overcloud, kept sealed, given back to `tree` each time."""

    def tree(self, facts: OvercloudFacts, secrets: dict[str, str]) -> list[PartSpec]:
        """Its files. Of one with stages: ansible-runner's input directory, paths below it; of a
        format: what people copy to where its documentation says. With no secrets (a preview, an
        export for everybody) it says where they come from instead."""

    def stages(self, facts: OvercloudFacts) -> tuple[Stage, ...]:
        """From nodes that are up to an overcloud, in order; each may be repeated."""

    def check(self, facts: OvercloudFacts) -> Stage | None:
        """What tells whether it works: its result is {item: [state, sentence]} as a cluster's
        check has them; None: nothing does."""

    def leave(self, facts: OvercloudFacts, names: tuple[str, ...]) -> Stage | None:
        """What takes these nodes out before they are given back; None: nothing is to be done.
        They are among facts.leaving, and may be dead."""

    def clouds(self, facts: OvercloudFacts, secrets: dict[str, str]) -> str:
        """clouds.yaml of its administrator, and beside `clouds` its `ca`, PEM, where it has one of
        its own; empty: Seed does not know it."""

    def proves(self, options: dict[str, Any]) -> str:
        """What a server's ACTIVE means with these options, where it is no guest that runs; empty:
        a guest runs."""

    def project(self, runner: Path) -> Path:
        """The folder of its playbooks. runner: ansible-runner of its environment."""


@runtime_checkable
class FromProject(Protocol):
    """An installer some of whose files are made of what its project, as installed, has.

    project: the folder that ansible-runner's project is a link to. programs: whose secrets go to
    `tree` beside those of `secrets`. gives: what the last stage leaves in the run's folder for
    people, paths below it; with passwords in it.
    """

    programs: tuple[Program, ...]
    gives: tuple[str, ...]

    def lacks(self, project: Path, stage: str = "") -> str:
        """What this stage, or if none is named any of them, wants and is not there, and how it gets
        there; empty: nothing."""

    def misfits(self, facts: OvercloudFacts, project: Path) -> list[Fault]:
        """What this project cannot do, whatever another could; asked with `faults`."""

    def prepare(self, project: Path) -> list[PartSpec]:
        """More files for the run's folder, beside the tree; it lacks nothing."""


class Format:
    """For installers that people run themselves."""

    environment = ""

    def secrets(self, facts: OvercloudFacts) -> dict[str, str]:
        return {}

    def stages(self, facts: OvercloudFacts) -> tuple[Stage, ...]:
        return ()

    def check(self, facts: OvercloudFacts) -> Stage | None:
        return None

    def leave(self, facts: OvercloudFacts, names: tuple[str, ...]) -> Stage | None:
        return None

    def clouds(self, facts: OvercloudFacts, secrets: dict[str, str]) -> str:
        return ""

    def proves(self, options: dict[str, Any]) -> str:
        return ""

    def project(self, runner: Path) -> Path:
        return Path()
