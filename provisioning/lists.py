"""Packing lists and imported files as observations: what shall arrive, and with which login.

A list is known by its file's name, and importing it again replaces it. Each password is sealed to
the reconciler's key as a credential of its own, named by list and server; nothing reads it back.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Session, col, insert, select

from provisioning import hostnames, intake, packing_list, plugins
from provisioning.documents import document
from provisioning.errors import Invalid
from provisioning.identity import serial_key
from provisioning.intake import HOST, Format, Listed
from provisioning.models import Credential, now
from provisioning.observations import IMPORT, LIST, SEEN, Box, boxes, drop
from provisioning.room import Observation
from provisioning.secrets import Sealer
from provisioning.store import Store, record

ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,79}")
_CHUNK = 5000


@dataclass(frozen=True, slots=True)
class Stored:
    """What an import did. ignored: columns that were not kept. hosts: what names led to."""

    name: str
    format: str
    servers: int
    new: int
    gone: int
    logins: int
    ignored: list[str]
    hosts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Keeper:
    """Writes lists down for one person. The file is read and sealed before a row is locked."""

    store: Store
    sealer: Sealer
    who: str

    def packing_list(self, name: str, body: bytes, username: str, accept: bool) -> Stored:
        """Raises Invalid, naming the bad row; then nothing was written."""
        read = packing_list.read(body, username)
        servers, hosts = _addressed(read.servers)
        done = self._keep(LIST, name, servers, self.who if accept else "")
        return Stored(name, "packing-list", *done, read.ignored, hosts)

    def file(self, name: str, body: bytes, format_name: str | None) -> Stored:
        """Another tool's file of servers. Raises Invalid, naming the place."""
        parsed = document(name, body)
        chosen = _format(name, parsed, format_name)
        try:
            servers = chosen.read(parsed)
        except Invalid as err:
            raise Invalid(f"{name}: {err}", err.remedy) from err
        if not servers:
            raise Invalid(f"{name} names no server", f"It was read as {chosen.title}.")
        servers, hosts = _addressed(servers)
        return Stored(name, chosen.name, *self._keep(IMPORT, name, servers, ""), [], hosts)

    def _keep(
        self, source: str, name: str, servers: list[Listed], accept_by: str
    ) -> tuple[int, int, int, int]:
        if not ORIGIN.fullmatch(name):
            raise Invalid(
                f"{name[:100]!r} is no name for a list",
                "Rename the file: letters, digits, '.', '_', '-' and blanks, at most 80.",
            )
        by_key = _by_key(source, servers)
        logins = {key: self._sealed(s) for key, s in by_key.items() if s.password}
        with self.store.write() as session:
            known = _known(session, source, name, by_key)
            drop(session, [row_id for row_id, _ in known.values()])
            taken = set(session.exec(select(Credential.name)))
            for key, login in logins.items():
                login["name"] = _free(f"{name}.{key}", taken)
            _insert(session, Credential, logins.values())
            rows = [
                _row(source, name, key, s, accept_by, known.get(key), logins.get(key))
                for key, s in by_key.items()
            ]
            _insert(session, Observation, rows)
            new, gone = len(by_key.keys() - known.keys()), len(known.keys() - by_key.keys())
            record(
                session, f"{source}.imported", name, f"{len(rows)} servers, {len(logins)} logins",
                who=self.who, new=new, gone=gone, accept_matches=bool(accept_by),
            )  # fmt: skip
        return len(rows), new, gone, len(logins)

    def _sealed(self, server: Listed) -> dict[str, Any]:
        assert server.password  # noqa: S101
        identity = uuid4()
        sealed = self.sealer.seal(server.password.get_secret_value(), f"credential:{identity}")
        return {"id": identity, "username": server.username, "sealed": sealed, "created_at": now()}


def _addressed(servers: list[Listed]) -> tuple[list[Listed], list[str]]:
    """The servers with the addresses that their BMCs' host names lead to, and what each led to.

    A name that leads nowhere stays a fact of its server; the rest of the list is good all the same.
    """
    found = hostnames.resolved(s.facts[HOST] for s in servers if HOST in s.facts)
    of = {name: answer.address for name, answer in found.items()}
    return (
        [replace(s, bmc_address=of.get(s.facts.get(HOST, ""), s.bmc_address)) for s in servers],
        [str(answer) for answer in found.values()],
    )


def formats() -> dict[str, Format]:
    return plugins.load(intake)


def _format(name: str, parsed: intake.Document, wanted: str | None) -> Format:
    known = formats()
    if wanted is not None and wanted not in known:
        raise Invalid(f"there is no format {wanted!r}", f"One of: {', '.join(sorted(known))}.")
    fitting = [f for f in known.values() if f.name == wanted or (not wanted and f.fits(parsed))]
    if not fitting or not fitting[0].fits(parsed):
        raise Invalid(
            f"{name} does not look like {known[wanted].title}"
            if wanted
            else f"{name} looks like no format that is known",
            f"Known are: {'; '.join(f.title for f in known.values())}. "
            "A vendor's list: `seed packing-list import FILE`.",
        )
    return fitting[0]


def _by_key(source: str, servers: list[Listed]) -> dict[str, Listed]:
    found: dict[str, Listed] = {}
    for server in servers:
        key = _key(source, server)
        if key in found:
            raise Invalid(
                f"{server.where} and {found[key].where} are both {key!r}",
                "Each server stands in the file once: correct one of the two.",
            )
        found[key] = server
    return found


def _key(source: str, server: Listed) -> str:
    serial = serial_key(server.serial)
    if source == LIST:
        return serial or server.bmc_mac
    name = server.name or server.facts.get("name", "")
    return name or serial or next(iter(server.macs), "") or server.bmc_address or server.where


def _known(
    session: Session, source: str, name: str, keys: Iterable[str]
) -> dict[str, tuple[UUID, datetime]]:
    """This list's rows, and other lists' rows of the same servers: what is about to be replaced."""
    wanted = set(keys)
    rows = session.exec(
        select(Observation.id, Observation.key, Observation.origin, Observation.found_at).where(
            Observation.source == source
        )
    )
    return {key: (i, at) for i, key, origin, at in rows if origin == name or key in wanted}


def _free(wished: str, taken: set[str]) -> str:
    """A credential's name that nobody has, within its grammar."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", wished).strip("-._")[:70]
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def _row(
    source: str,
    origin: str,
    key: str,
    server: Listed,
    accept_by: str,
    before: tuple[UUID, datetime] | None,
    login: dict[str, Any] | None,
) -> dict[str, Any]:
    at = now()
    return {
        "id": before[0] if before else uuid4(),
        "source": source,
        "key": key,
        "origin": origin,
        "serial": server.serial,
        "system_uuid": server.system_uuid,
        "bmc_mac": server.bmc_mac,
        "bmc_address": server.bmc_address,
        "macs": list(server.macs),
        "facts": {**server.facts, "where": server.where},
        "node_name": server.name,
        "resource_class": server.resource_class,
        "accept_by": accept_by,
        "credential_id": login["id"] if login else None,
        "found_at": before[1] if before else at,
        "seen_at": at,
    }


def _insert(session: Session, table: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    every = list(rows)
    for begin in range(0, len(every), _CHUNK):
        session.execute(insert(table), every[begin : begin + _CHUNK])


# --- what arrived ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One server of the comparison: arrived, missing, or extra (seen, but on no packing list)."""

    status: str
    box: Box


def difference(session: Session, name: str | None) -> list[Line]:
    """Packing lists against what was seen; of one list, or of all. Invalid for an unknown name."""
    every = boxes(session)
    lists = Counter(w.origin for b in every for w in b.words if w.source == LIST)
    if name is not None and name not in lists:
        raise Invalid(
            f"no packing list is named {name!r}",
            f"There is: {', '.join(sorted(lists)) or 'none'}. `seed packing-list import FILE`",
        )
    lines = [Line(_status(b), b) for b in every if _concerns(b, name)]
    return sorted(lines, key=lambda line: line.status)  # stable: boxes are sorted already


def _concerns(box: Box, name: str | None) -> bool:
    on = {w.origin for w in box.words if w.source == LIST}
    if on:
        return name is None or name in on
    return bool(SEEN & set(box.sources))


def _status(box: Box) -> str:
    if LIST not in box.sources:
        return "extra"
    return "arrived" if SEEN & set(box.sources) else "missing"


def overview(session: Session) -> list[dict[str, Any]]:
    """Every list: its name, source and number of servers."""
    found: Counter[tuple[str, str]] = Counter()
    announced = col(Observation.source).in_([LIST, IMPORT])
    for row in session.exec(select(Observation.origin, Observation.source).where(announced)):
        found[row] += 1
    return [{"name": n, "source": s, "servers": c} for (n, s), c in sorted(found.items())]
