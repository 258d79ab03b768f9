"""An installer as a kind of cluster: its nodes get a key of Ansible's, and take no step of their
own. So claims, proofs, members, changes and the release are those of clusters (ADR 0047).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from provisioning.installers import Installer, NetFacts, OvercloudFacts, Use
from provisioning.ip_text import a_range
from provisioning.kinds import ClusterFacts, Fault, KubeApi, MemberFacts, Stays, Step, _ssh, part
from provisioning.targets import PartSpec


@dataclass(frozen=True)
class Installed(Stays):
    installer: Installer
    kube: KubeApi | None = None

    @property
    def name(self) -> str:
        return self.installer.name

    def faults(self, facts: ClusterFacts) -> list[Fault]:
        told = of(facts)
        return [*_of_all(told), *self.installer.faults(told)]

    def secrets(self, facts: ClusterFacts) -> dict[str, str]:
        return _ssh.new_key(facts.name) | self.installer.secrets(of(facts))

    def files(
        self, facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
    ) -> list[PartSpec]:
        return [part(_ssh.KEYS, secrets["ssh.pub"], 0o600)]

    def steps(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return []

    def check(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        return ()


def of(facts: ClusterFacts) -> OvercloudFacts:
    if facts.overcloud is None:
        raise TypeError(f"{facts.name} is no overcloud")
    return facts.overcloud


# --- what no installer can do ---------------------------------------------------------------------


def _of_all(facts: OvercloudFacts) -> Iterator[Fault]:
    yield from _services(facts)
    yield from _ranges(facts)
    if facts.vips["external"] == "":
        yield Fault(
            "vips.external", f"{facts.networks['api'].name} has no VIP of this name",
            f"Put it: `seed network show {facts.networks['api'].name}`.",
        )  # fmt: skip
    if not facts.of("compute"):
        yield Fault("compute.count", "no node would run servers", "Say compute: {count: 1}.")


def _services(facts: OvercloudFacts) -> Iterator[Fault]:
    for name in {one for one in facts.services if facts.services.count(one) > 1}:
        yield Fault("services", f"{name} is there twice", "Name each once.")


def _ranges(facts: OvercloudFacts) -> Iterator[Fault]:
    """Networks of different uses that share addresses: a packet would not know its way."""
    seen: dict[str, tuple[Use, NetFacts]] = {}
    for use, net in facts.networks.items():
        if not net.cidr or net.name in seen:
            continue
        for other_use, other in seen.values():
            mine, theirs = ip_network(net.cidr), ip_network(other.cidr)
            if mine.version == theirs.version and mine.overlaps(theirs):
                yield Fault(
                    f"networks.{use}", f"{net.name} {net.cidr} overlaps {other.name} {other.cidr}",
                    f"Take another network than for {other_use}: `seed network list`.",
                )  # fmt: skip
        seen[net.name] = use, net


def overlaps(one: str, many: tuple[str, ...]) -> str:
    """The first of `many` ("first-last") that has an address of `one`; empty: none has."""
    mine = a_range(one)
    return next((text for text in many if a_range(text).meets(mine)), "")
