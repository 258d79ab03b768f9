"""Drydock's documents as its schemas have them, and as strict: an unknown field fails.

airshipit/drydock, python/drydock_provisioner/schemas at 108a3c1: the fields of the kinds that Seed
writes, as far as it may write them; `check` does what its orchestrator/validations at d00eaf0 do
to a whole design (unique_network_check, network_trunking_rational, rational_network_bond,
mtu_rational, ip_locality_check, no_duplicate_ips_check, hostname_validity). metadata:
airshipit/deckhand, engine/schemas/metadata_document.yaml at 0531c10.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints

Words = dict[str, str]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Layer(Strict):
    layer: str
    abstract: bool


class Path(Strict):
    path: str


class Source(Strict):
    schema_: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+/[A-Za-z]+/v\d+$")] = Field(
        alias="schema"
    )
    name: str
    path: str


class Substitution(Strict):
    dest: Path
    src: Source


class Meta(Strict):
    schema_: Literal["metadata/Document/v1"] = Field(alias="schema")
    name: str
    storagePolicy: Literal["cleartext", "encrypted"]
    layeringDefinition: Layer
    labels: Words
    substitutions: list[Substitution] = []


class Switch(Strict):
    mgmt_ip: str | None = None
    sdn_api_uri: str | None = None


class Rack(Strict):
    tor_switches: dict[str, Switch] = {}
    location: Words = {}
    local_networks: list[str] = []
    labels: Words = {}


class Range(Strict):
    type: Literal["static", "dhcp", "reserved"]
    start: str
    end: str


class Dns(Strict):
    domain: str = ""
    servers: str = ""


class Route(Strict):
    subnet: str
    gateway: str
    metric: int


class Network(Strict):
    cidr: str | None = None
    ranges: list[Range] = []
    dns: Dns | None = None
    mtu: int
    vlan: str | None = None
    routes: list[Route] = []
    labels: Words = {}


class Bonding(Strict):
    mode: Literal["disabled", "802.3ad", "active-backup", "balanced-rr"]


class Trunking(Strict):
    mode: Literal["disabled", "802.1q"]
    default_network: str | None = None


class NetworkLink(Strict):
    bonding: Bonding
    mtu: int
    linkspeed: str
    trunking: Trunking
    allowed_networks: list[str]


class Interface(Strict):
    device_link: str
    slaves: Annotated[list[str], Field(min_length=1)]
    networks: Annotated[list[str], Field(min_length=1)]


class Address(Strict):
    network: str
    address: str


class About(Strict):
    tags: list[str] = []
    owner_data: Words = {}
    rack: str | None = None
    boot_mac: str | None = None


class Platform(Strict):
    image: str | None = None
    kernel: str | None = None
    kernel_params: dict[str, str | bool] = {}


class HostProfile(Strict):
    """No `oob`: an account or a password would be in it."""

    primary_network: str | None = None
    host_profile: str | None = None
    hardware_profile: str | None = None
    platform: Platform | None = None


class BaremetalNode(HostProfile):
    interfaces: dict[str, Interface]
    addressing: list[Address]
    metadata: About


KINDS: dict[str, type[Strict]] = {
    f"drydock/{kind.__name__}/v1": kind
    for kind in (BaremetalNode, HostProfile, Network, NetworkLink, Rack)
}


class Document(Strict):
    schema_: str = Field(alias="schema")
    metadata: Meta
    data: dict[str, Any]

    def read(self) -> Any:
        return KINDS[self.schema_].model_validate(self.data)


class Text(RootModel[list[Document]]):
    pass


def read(texts: Sequence[str]) -> dict[tuple[str, str], Any]:
    """(kind, name) -> its data."""
    told = [one for text in texts for one in yaml.safe_load_all(text)]
    found: dict[tuple[str, str], Any] = {}
    for one in Text.model_validate(told).root:
        key = one.schema_.split("/")[1], one.metadata.name
        assert key not in found, f"{key} stands there twice"
        found[key] = one.read()
    return found


def check(design: dict[tuple[str, str], Any], outside: frozenset[str] = frozenset()) -> None:
    """outside: profiles of the site's own."""
    of: dict[str, dict[str, Any]] = {kind.split("/")[1]: {} for kind in KINDS}
    for (kind, name), one in design.items():
        of[kind][name] = one
    allowed = [net for link in of["NetworkLink"].values() for net in link.allowed_networks]
    assert len(allowed) == len(set(allowed)), "a network on two links"
    assert set(allowed) == set(of["Network"])
    for name, link in of["NetworkLink"].items():
        _link(name, link, of["Network"])
    seen: set[str] = set()
    for name, node in of["BaremetalNode"].items():
        assert "__" not in name
        assert node.host_profile in {*of["HostProfile"], *outside}
        assert node.metadata.rack in of["Rack"]
        assert node.primary_network in of["Network"]
        for interface in node.interfaces.values():
            assert {*interface.networks} <= {
                *of["NetworkLink"][interface.device_link].allowed_networks
            }
        for one in node.addressing:
            assert one.address not in seen
            seen.add(one.address)
            assert IPv4Address(one.address) in IPv4Network(of["Network"][one.network].cidr)


def _link(name: str, link: NetworkLink, networks: dict[str, Network]) -> None:
    plain = [net for net in link.allowed_networks if networks[net].vlan is None]
    assert len(plain) <= 1, name
    assert all(networks[net].mtu <= link.mtu for net in link.allowed_networks), name
    if link.trunking.mode == "disabled":
        assert [link.trunking.default_network] == link.allowed_networks == plain, name
    elif link.trunking.default_network:
        assert [link.trunking.default_network] == plain, name
