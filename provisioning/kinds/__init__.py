"""Kinds of clusters: what makes its claimed nodes one cluster. One module, one PLUGIN.

A kind is pure: it is given facts and answers with files and steps; it calls nobody. What the
members do with them is provisioning/on_node/member.py's work.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from provisioning.targets import PartSpec

if TYPE_CHECKING:
    from provisioning.installers import OvercloudFacts

Role = str
"""Of a cluster "control" or "worker"; of an overcloud one of provisioning.installers.ROLES."""


def part(path: str, text: str, mode: int = 0o644) -> PartSpec:
    """A file of a member's, once and in secret."""
    return PartSpec(path, path, mode, text.encode())


@dataclass(frozen=True, slots=True)
class Fault:
    """What cannot be in a cluster's spec. field: as the caller wrote it, e.g. "control.count"."""

    field: str
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DataDisk:
    """A disk that its claim asked for beside the root. role: the claim's word. size: bytes.

    wwn: as its ramdisk told it; empty: it has none.
    """

    role: str
    wwn: str
    serial: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """One node of a cluster. name: its host name. first: the one that begins.

    address: in the network of role `api`, with its prefix length; interface: what has it there.
    labels: of the cluster's nodes (rack, unit, class), values as Kubernetes allows them.
    virtualization: whether its CPU can run virtual machines (vmx, svm); None: nobody told.
    leads: it does what is for the whole cluster as it joins: the first control plane, and with each
    bundle that came later the first that has it.
    """

    name: str
    role: Role
    first: bool
    node_uuid: str
    address: str
    interface: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    disks: tuple[DataDisk, ...] = ()
    virtualization: bool | None = None
    leads: bool = False


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What all members have in common.

    vip: of the API, bare; api_port: where clients reach it. gateway_url: the node gateway's,
    https://ADDRESS ; bundle_url: of its files; empty: none is used. registry: that is asked for
    images first; registry_ca: PEM, of Seed's own. options: the kind's own, and "addons": NAME ->
    those of an add-on. ranges: add-on -> addresses that Seed keeps for it, "first-last". given:
    names of the secrets that came with the wish. pod_nodes: how many nodes that run pods there
    shall be; 0: as many as there are. overcloud: what its installer is told, where it is one.
    """

    id: str
    name: str
    version: str
    vip: str
    api_port: int
    pod_cidr: str
    service_cidr: str
    dns_domain: str
    members: tuple[MemberFacts, ...]
    gateway_url: str = ""
    bundle_url: str = ""
    registry: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    addons: tuple[str, ...] = ()
    ranges: dict[str, tuple[str, ...]] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    registry_ca: str = ""
    pod_nodes: int = 0
    overcloud: "OvercloudFacts | None" = None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a member does, in order; each may be repeated after a restart.

    wants: paths that must be there before it, else the step fails with the missing one's name.
    done: a path; where it is, the step is over. Tried again every `pause_seconds` until
    `patience_seconds` are over; each try is ended after `try_seconds`.
    """

    name: str
    argv: tuple[str, ...]
    wants: tuple[str, ...] = ()
    done: str = ""
    try_seconds: int = 120
    pause_seconds: int = 5
    patience_seconds: int = 1800


@dataclass(frozen=True, slots=True)
class KubeApi:
    """A Kubernetes API at vip:api_port, and how one gets in: names in the kind's secrets.

    server_ca, client_ca: NAME.crt, and of the second NAME.key. token: of joining nodes, which ends
    while a node may still be on its way; empty: none does. token_groups: what it is a member of.
    behind: ports of which an API server has one, on all addresses of its node, beside api_port.
    """

    server_ca: str = "ca"
    client_ca: str = "ca"
    token: str = ""
    token_groups: tuple[str, ...] = ()
    behind: tuple[int, ...] = ()


NAME = "{name}"
"""The word of a step's argv in whose place the other member's name is put: of `drain`, `forget`."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A file without secrets that says who the members are: it changes as they come and go.

    unit: reloaded after that, where it runs.
    """

    path: str
    content: str
    unit: str


@dataclass(frozen=True, slots=True)
class Reach:
    """How the Seed machine reaches a member. host_keys: as its proof told them."""

    address: str
    host_keys: tuple[str, ...] = ()


class Kind(Protocol):
    """takes_addons = True: it gives its members what chosen_addons.py says, too."""

    name: str
    kube: KubeApi | None
    """None: it is no Kubernetes, or Seed cannot get in."""

    def faults(self, facts: ClusterFacts) -> list[Fault]:
        """What this kind cannot do with these facts; empty: nothing."""

    def secrets(self, facts: ClusterFacts) -> dict[str, str]:
        """Made once per cluster, sealed, and given back to `files` each time."""

    def files(
        self, facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
    ) -> list[PartSpec]:
        """What this member needs, once and in secret."""

    def steps(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        """From a booted node to a member."""

    def check(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        """What this member runs for ever once it is one; 0: all is well. Empty: nothing."""

    def drain(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        """What this control plane does so that member NAME has no work any more."""

    def leave(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        """From a drained member to a server that is none."""

    def forget(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        """What this control plane does once member NAME is gone, or dead. It may be run again, and
        where nothing is left of it."""

    def fresh(self, facts: ClusterFacts, member: MemberFacts) -> list[Fresh]:
        """Of a control plane. facts: with the control planes of now, and no workers."""

    def skew(self, was: str, to: str) -> Fault | None:
        """Why a cluster with members of version `was` cannot have some of `to`, and nothing else in
        the end."""


class Stays:
    """For kinds whose members need nothing done when one of them comes or goes."""

    def drain(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return []

    def leave(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return []

    def forget(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return []

    def fresh(self, facts: ClusterFacts, member: MemberFacts) -> list[Fresh]:
        return []

    def skew(self, was: str, to: str) -> Fault | None:
        return None


@runtime_checkable
class Tries(Protocol):
    """A kind without a Kubernetes API, one of whose control planes can say whether it works."""

    def tries(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        """An argv that gets a number as its last word, and prints {item: [state, sentence]} in one
        line of JSON, of the items and states of a cluster's check, within 8 minutes and 2,000
        bytes; nothing where another control plane does it. It takes away what it made, also what
        another life of it made."""


@runtime_checkable
class ByPlaybook(Protocol):
    """A kind that Ansible installs from the Seed machine, once its members took their steps.

    environment: whose ansible-runner and playbooks these are (provisioning.playbooks)."""

    environment: str
    playbook: str

    def tree(
        self, facts: ClusterFacts, secrets: dict[str, str], reached: dict[str, Reach]
    ) -> list[PartSpec]:
        """ansible-runner's input directory, paths below it, for these members. reached: by name."""
