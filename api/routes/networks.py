"""Networks that nodes get addresses of, and who has which. Claimers see their own addresses."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from api.auth import Anyone, Operator
from api.parts import Here
from api.roles import Caller
from provisioning import fabric_rules, holders
from provisioning.class_text import parse_as
from provisioning.errors import Invalid
from provisioning.fabric import Network
from provisioning.fabric_rules import Served
from provisioning.fabric_text import written
from provisioning.models import Address
from provisioning.names import HostLabel
from provisioning.network_doc import NetworkDoc
from provisioning.networks import network_of

router = APIRouter(prefix="/v1/networks", tags=["networks"])
EXAMPLE = "See one: `seed network list`, then `seed network show NAME`; docs/networks.md has more."


class DocumentText(BaseModel):
    """text: the document as YAML (docs/networks.md)."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"text": (
        "role: storage\nvlan: 40\nsubnets:\n- cidr: 10.40.0.0/24\n  pools: 10.40.0.10-10.40.0.99\n"
    )}})  # fmt: skip
    text: str = Field(max_length=1024 * 1024)


class NetworkOut(BaseModel):
    """One network. vlan: None: untagged. given: addresses of it that somebody has; None: not
    shown to claimers. vips: by name, those made by themselves too."""

    name: str
    role: str
    vlan: int | None
    mtu: int
    cidrs: list[str]
    dns: list[str]
    ntp: list[str]
    domain: str
    vips: dict[str, str]
    given: int | None
    put_by: str
    put_at: datetime


class NetworkFull(NetworkOut):
    document: dict[str, Any]
    text: str


class AddressOut(BaseModel):
    """kind: boot and node: a node's; vip: a service that moves; reserved: nobody gets it.

    label: the VIP's name, or why it is reserved.
    """

    address: str
    network: str
    kind: str
    mac: str
    node: str
    claim: str
    label: str
    set_by: str


class ReserveAsk(BaseModel):
    """why: for those who find it taken."""

    model_config = ConfigDict(extra="forbid")
    why: str = Field(default="", max_length=500)


class VipAsk(BaseModel):
    """address: empty: Seed chooses a free one outside the pools."""

    model_config = ConfigDict(extra="forbid")
    address: str = Field(default="", max_length=64)


@router.get("")
def list_networks(caller: Anyone, parts: Here) -> list[NetworkOut]:
    """Every network that was put, by name."""
    with parts.store.read() as session:
        rows = session.exec(select(Network).order_by(col(Network.name))).all()
        return [NetworkOut(**_out(session, row, caller)) for row in rows]


@router.get("/{name}")
def show_network(name: str, caller: Anyone, parts: Here) -> NetworkFull:
    """One network, whole."""
    with parts.store.read() as session:
        return _full(session, holders.find(session, name), caller)


@router.put("/{name}")
def put_network(name: str, ask: DocumentText, caller: Operator, parts: Here) -> NetworkFull:
    """Keep a network, or a new version of it; the same again changes nothing.

    Refused where it overlaps with anything that Seed serves or knows, and where somebody relies on
    what would change.
    """
    doc = parse_as(NetworkDoc, named(name, ask.text), "network", EXAMPLE)
    same_name(name, doc.name)
    with parts.store.write() as session:
        row = fabric_rules.put(session, doc, caller.name, Served(parts.wires))
        return _full(session, row, caller)


@router.delete("/{name}")
def delete_network(name: str, caller: Operator, parts: Here) -> list[str]:
    """Forget a network that nobody uses, with its VIPs and reservations; the name."""
    with parts.store.write() as session:
        fabric_rules.delete(session, name, caller.name)
    return [name]


@router.get("/{name}/addresses")
def list_addresses(name: str, caller: Anyone, parts: Here) -> list[AddressOut]:
    """Who has which address of a network; a claimer sees its own project's."""
    project = None if caller.sees_all else caller.project
    with parts.store.read() as session:
        if name != "provisioning":
            holders.find(session, name)
        found = holders.addresses(session, name, project)
        return [_address(*one) for one in found]


@router.put("/{name}/addresses/{address}")
def reserve_address(
    name: str, address: str, ask: ReserveAsk, caller: Operator, parts: Here
) -> AddressOut:
    """Keep an address from being given: somebody whom Seed does not know has it."""
    with parts.store.write() as session:
        return _address(holders.reserve(session, name, address, ask.why, caller.name))


@router.delete("/{name}/addresses/{address}")
def free_address(name: str, address: str, caller: Operator, parts: Here) -> list[str]:
    """Free a reservation or a VIP; the address."""
    with parts.store.write() as session:
        holders.release(session, name, address, caller.name)
    return [address]


@router.put("/{name}/vips/{vip}")
def put_vip(name: str, vip: HostLabel, ask: VipAsk, caller: Operator, parts: Here) -> AddressOut:
    """An address for a service that moves between nodes; the same one when it is asked again."""
    with parts.store.write() as session:
        return _address(holders.vip(session, name, vip, ask.address, caller.name))


def named(name: str, text: str) -> str:
    """The text with the name of its path, where it says none."""
    says = any(line.startswith("name:") for line in text.splitlines())
    return text if says or text.lstrip().startswith(("{", "---")) else f"name: {name}\n{text}"


def same_name(path: str, document: str) -> None:
    if path != document:
        raise Invalid(
            f"the document's name is {document}, not {path}", "Put it under its own name."
        )


def _address(row: Address, node: str = "", claim: str = "") -> AddressOut:
    return AddressOut(
        **row.model_dump(include={"address", "network", "label", "set_by"}),
        kind=row.kind.value, mac=row.mac or "", node=node, claim=claim,
    )  # fmt: skip


def _out(session: Session, row: Network, caller: Caller) -> dict[str, Any]:
    doc = network_of(row.document)
    held = holders.held(session, row.name)
    vips = {r.label: r.address for r in held if r.kind == "vip"}
    return {
        **doc.model_dump(include={"name", "role", "vlan", "mtu", "domain"}),
        "cidrs": [str(net) for net in doc.nets], "dns": list(doc.dns), "ntp": list(doc.ntp),
        "vips": dict(sorted(vips.items())), "given": len(held) if caller.sees_all else None,
        "put_by": row.put_by if caller.sees_all else "", "put_at": row.put_at,
    }  # fmt: skip


def _full(session: Session, row: Network, caller: Caller) -> NetworkFull:
    text = written(network_of(row.document).stored())
    return NetworkFull(**_out(session, row, caller), document=row.document, text=text)
