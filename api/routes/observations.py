"""What was seen and what shall arrive: boxes, packing lists, other tools' files."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Insider, Operator
from api.parts import Here, Raw
from provisioning import documents, lists, observations, tables
from provisioning.identity import mac_key, serial_key, uuid_key
from provisioning.observations import Box

FILES: Final = {"/v1/packing-lists": tables.MAX_BYTES, "/v1/imports": documents.MAX_BYTES}
"""Routes whose body is a file, and how large it may be."""
_BODY: Final = {
    "requestBody": {"content": {"application/octet-stream": {}}, "required": True},
}
Short = Annotated[str, Query(max_length=255)]
Maybe = Annotated[str | None, Query(max_length=255)]

router = APIRouter(tags=["observations"])


class WordOut(BaseModel):
    """What one source said. No login has a field here."""

    source: str
    origin: str
    serial: str
    system_uuid: str
    bmc_mac: str
    bmc_address: str
    macs: list[str]
    name: str
    seen_at: datetime
    facts: dict[str, Any]


class BoxOut(BaseModel):
    """One server, by everybody's word. `words` is filled when one server was asked for."""

    state: str
    name: str
    serial: str
    system_uuid: str
    bmc_mac: str
    bmc_address: str
    macs: list[str]
    vendor: str
    model: str
    sources: list[str]
    problem: str
    remedy: str
    seen_at: datetime
    words: list[WordOut] = []


class ListLineOut(BoxOut):
    """status: arrived, missing, extra. list, where: the packing list and its row."""

    status: str
    list: str
    where: str
    asset_tag: str


class ListOut(BaseModel):
    """servers: how many rows of it are kept."""

    name: str
    source: str
    servers: int


class StoredOut(BaseModel):
    name: str
    format: str
    servers: int
    new: int
    gone: int
    logins: int
    ignored: list[str]
    hosts: list[str]


class ForgetAsk(BaseModel):
    """name: serial, UUID, MAC or BMC address. source: only what this source said."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "ABC1234", "source": "lease"}}
    )
    name: str = Field(min_length=1, max_length=255)
    source: str | None = None


@router.get("/v1/observations")
def list_observations(caller: Insider, parts: Here, match: Maybe = None) -> list[BoxOut]:
    """Every server that anybody saw or announced, merged; with `match` one, and who said what.

    match: a serial, UUID, MAC, BMC address or node's name.
    """
    with parts.store.read() as session:
        if match is not None:
            return [_told(observations.one(session, match))]
        return [BoxOut(**_out(b)) for b in observations.boxes(session)]


@router.post("/v1/observations:forget")
def forget_observation(ask: ForgetAsk, caller: Operator, parts: Here) -> dict[str, int]:
    """Drop what lists, leases and ramdisks said of a server. What a sweep found stays."""
    with parts.store.write() as session:
        return {"forgotten": observations.forget(session, ask.name, ask.source, caller.name)}


@router.get("/v1/packing-lists")
def list_lists(caller: Insider, parts: Here) -> list[ListOut]:
    """Every packing list and imported file."""
    with parts.store.read() as session:
        return [ListOut(**row) for row in lists.overview(session)]


@router.post("/v1/packing-lists", status_code=201, openapi_extra=_BODY)
def import_packing_list(
    caller: Operator,
    parts: Here,
    body: Raw,
    name: Short,
    username: Short = "",
    accept_matches: bool = False,
) -> StoredOut:
    """A vendor's list, CSV or XLSX, as the body. All rows or none; again: it is replaced.

    name: the file's. username: for rows with a password and no user. accept_matches: a BMC whose
    MAC and server's serial are those of a row is accepted by itself, in the caller's name.
    """
    keeper = lists.Keeper(parts.store, parts.sealer, caller.name)
    return _stored(keeper.packing_list(name, body, username, accept_matches))


@router.get("/v1/packing-lists:diff")
def diff_packing_lists(caller: Insider, parts: Here, name: Maybe = None) -> list[ListLineOut]:
    """What arrived, what is missing, and what is there but on no list."""
    with parts.store.read() as session:
        return [_line(line) for line in lists.difference(session, name)]


@router.post("/v1/imports", status_code=201, openapi_extra=_BODY)
def import_file(
    caller: Operator, parts: Here, body: Raw, name: Short, format: Maybe = None
) -> StoredOut:
    """Another tool's file of servers as the body. Nothing is enrolled before it is accepted."""
    keeper = lists.Keeper(parts.store, parts.sealer, caller.name)
    return _stored(keeper.file(name, body, format))


def _stored(done: lists.Stored) -> StoredOut:
    return StoredOut.model_validate(done, from_attributes=True)


def _out(box: Box) -> dict[str, Any]:
    remedy = f"See who says what: `seed observation show {_called(box)}`." if box.problems else ""
    return {
        "state": box.state,
        "name": box.first("name"),
        "serial": box.meaningful("serial", serial_key),
        "system_uuid": box.meaningful("system_uuid", uuid_key),
        "bmc_mac": box.meaningful("bmc_mac", mac_key),
        "bmc_address": box.first("bmc_address"),
        "macs": box.macs,
        "vendor": box.first("vendor"),
        "model": box.first("model"),
        "sources": box.sources,
        "problem": "; ".join(box.problems),
        "remedy": remedy,
        "seen_at": max(w.seen_at for w in box.words),
    }


def _called(box: Box) -> str:
    return str(box.first("bmc_address") or box.first("serial") or box.first("bmc_mac") or "NAME")


def _told(box: Box) -> BoxOut:
    words = [WordOut.model_validate(w, from_attributes=True) for w in box.words]
    return BoxOut(**_out(box), words=words)


def _line(line: lists.Line) -> ListLineOut:
    on = next((w for w in line.box.words if w.source == observations.LIST), None)
    facts = on.facts if on else {}
    return ListLineOut(
        **_out(line.box),
        status=line.status,
        list=on.origin if on else "",
        where=str(facts.get("where", "")),
        asset_tag=str(facts.get("asset_tag", "")),
    )
