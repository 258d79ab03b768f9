"""What lists say of a BMC that was found: its name and class, and whether it accepts itself."""

import re
from typing import Any

from sqlalchemy import func, or_
from sqlmodel import Session, col, select

from provisioning import acceptance
from provisioning.errors import Conflict
from provisioning.identity import mac_key, serial_key
from provisioning.models import Bmc
from provisioning.observations import IMPORT, LIST
from provisioning.room import Observation
from provisioning.states import BmcGoal, Login
from provisioning.store import Store, record

CLASS = "baremetal"
"""The resource class of a server of which nobody says another."""


def announced(session: Session, bmc: Bmc) -> list[Observation]:
    """Rows of lists that mean this server, and say nothing against it; serials and MACs first."""
    rows = session.exec(
        select(Observation).where(
            col(Observation.source).in_([LIST, IMPORT]),
            or_(
                func.lower(col(Observation.serial)) == (bmc.serial.strip().lower() or None),
                col(Observation.bmc_mac) == (mac_key(bmc.manager_mac) or None),
                col(Observation.bmc_address) == bmc.address,
            ),
        )
    )
    fitting = [row for row in rows if not _differ(row, bmc)]
    # Several rows by the address alone are servers behind one address: none is meant.
    sure = [row for row in fitting if _same(row, bmc)]
    return sure or (fitting if len(fitting) == 1 else [])


def _differ(row: Observation, bmc: Bmc) -> bool:
    pairs = (
        (serial_key(row.serial), serial_key(bmc.serial)),
        (row.bmc_mac, mac_key(bmc.manager_mac)),
    )
    return any(a and b and a != b for a, b in pairs)


def _same(row: Observation, bmc: Bmc) -> bool:
    serial = serial_key(row.serial)
    return bool(serial and serial == serial_key(bmc.serial)) or bool(
        row.bmc_mac and row.bmc_mac == mac_key(bmc.manager_mac)
    )


def name_for(session: Session, bmc: Bmc) -> str:
    """The node's name where nobody gives one: an import's, else the serial that is on the box."""
    if bmc.node_name:
        return bmc.node_name
    listed = next((row.node_name for row in announced(session, bmc) if row.node_name), "")
    label = re.sub(r"[^a-z0-9]+", "-", bmc.serial.lower()).strip("-")[:50].strip("-")
    return listed or label or "bmc-" + re.sub(r"[^a-z0-9]+", "-", bmc.address.lower()).strip("-")


def class_for(session: Session, bmc: Bmc) -> str:
    rows = announced(session, bmc)
    return next((row.resource_class for row in rows if row.resource_class), CLASS)


def accept_matches(store: Store) -> int:
    """Accept what has the BMC MAC and the serial of a row that was imported to that end.

    In the name of who imported it. What cannot be accepted says so in its `problem`.
    """
    with store.read() as session:
        waiting = [bmc.id for bmc, row in session.exec(_matching()) if _equal(bmc, row)]
    for bmc_id in waiting:
        with store.write() as session:
            _accept(session, session.get_one(Bmc, bmc_id))
    return len(waiting)


def _matching() -> Any:  # noqa: ANN401  SQLModel's own type of two tables
    return select(Bmc, Observation).where(
        col(Observation.accept_by) != "",
        col(Observation.source) == LIST,
        col(Observation.bmc_mac) != "",
        func.lower(col(Bmc.manager_mac)) == col(Observation.bmc_mac),
        Bmc.goal == BmcGoal.OBSERVED,
        Bmc.login == Login.OK,
    )


def _equal(bmc: Bmc, row: Observation) -> bool:
    return bool(serial_key(row.serial)) and serial_key(row.serial) == serial_key(bmc.serial)


def _accept(session: Session, bmc: Bmc) -> None:
    row = next((r for r in announced(session, bmc) if r.accept_by and _equal(bmc, r)), None)
    if row is None or bmc.goal is not BmcGoal.OBSERVED:
        return  # somebody was quicker
    try:
        acceptance.accept(
            session, bmc, name_for(session, bmc), class_for(session, bmc), row.accept_by
        )
        record(
            session, "bmc.expected", bmc.address, f"is {row.serial} of {row.origin}",
            who=row.accept_by,
        )  # fmt: skip
    except Conflict as err:
        if bmc.problem != str(err):
            bmc.problem, bmc.remedy = str(err), err.remedy
            record(session, "bmc.not-accepted", bmc.address, str(err), who=row.accept_by)
