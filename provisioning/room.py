"""Stored nouns of the room: what was observed, what is planned where, and kinds of hardware.

Times are UTC and aware. models.py has the nouns of BMCs, nodes and claims.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from provisioning.models import now, stored_json, stored_time
from provisioning.names import Name
from provisioning.states import RotationStep


class Observation(SQLModel, table=True):
    """What one source said of one server, as it said it. What a sweep found is in Bmc.

    source: "packing-list", "lease", "ramdisk", "import", "one-by-one".
    key:    names the server within its source: a serial, a MAC, an address. Seen again: same row.
    facts:  an Inventory, or the list's other columns. Never a password.
    node_name, resource_class: what it shall be called and be, where the source says.
    accept_by: who said that a server which matches this row is accepted by itself; else empty.
    """

    __table_args__ = (UniqueConstraint("source", "key"),)
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    source: str
    key: str
    origin: str = ""  # the file's name, the lease's wire, the caller
    serial: str = Field(default="", index=True)
    system_uuid: str = ""
    bmc_mac: str = Field(default="", index=True)
    bmc_address: str = ""
    macs: list[str] = stored_json(default=[])
    facts: dict[str, Any] = stored_json(default={})
    node_name: str = ""
    resource_class: str = ""
    accept_by: str = Field(default="", index=True)
    credential_id: UUID | None = Field(default=None, foreign_key="credential.id", index=True)
    found_at: datetime = stored_time(default_factory=now)
    seen_at: datetime = stored_time(default_factory=now)


class Slot(SQLModel, table=True):
    """One place of the rack plan, and the server that shall be in it.

    unit:  the lowest rack unit it fills, from 1 at the bottom; height in units.
    feed:  the power feed it hangs on, where the plan says.
    nics:  [{"nic": name or MAC, "switch": system name, "port": name}], as planned.
    """

    __table_args__ = (Index("one_per_unit", "site", "row", "rack", "unit", unique=True),)
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    site: str = ""
    row: str = ""
    rack: str
    unit: int = Field(ge=1, le=100)
    height: int = Field(default=1, ge=1, le=100)
    serial: str = Field(default="", index=True)
    bmc_mac: str = Field(default="", index=True)
    resource_class: str = ""
    technician: str = ""
    feed: str = ""
    nics: list[dict[str, str]] = stored_json(default=[])


class HardwareClass(SQLModel, table=True):
    """A kind of server: which ones belong to it, and what each of them must consist of.

    document: the class's YAML as it was put, parsed. provisioning/classes.py reads it.
    """

    name: Name = Field(primary_key=True)
    document: dict[str, Any] = stored_json(default={})
    put_by: str = ""
    put_at: datetime = stored_time(default_factory=now)


class Rotation(SQLModel, table=True):
    """A BMC's change of login under way: after a crash the next step is known from here.

    One row per BMC while it lasts; one that failed stays as the record of why.
    candidate:   the login it shall have.
    tries:       logins whose end was open when they were sent; the count is written before each.
    certificate: PEM it shall show.
    """

    bmc_id: UUID = Field(primary_key=True, foreign_key="bmc.id")
    candidate_id: UUID | None = Field(default=None, foreign_key="credential.id")
    step: RotationStep = RotationStep.ASKED
    tries: int = 0
    certificate: str = ""
    problem: str = ""
    remedy: str = ""
    asked_by: str = ""
    asked_at: datetime = stored_time(default_factory=now)


class LoginTry(SQLModel, table=True):
    """One guess from the vendors' default list, for the budget of two per BMC in ten minutes."""

    id: int | None = Field(default=None, primary_key=True)
    address: str = Field(index=True)
    at: datetime = stored_time(default_factory=now)
