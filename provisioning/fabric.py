"""Stored nouns of the wires: networks, their addresses' holders, and how nodes are cabled to them.

Times are UTC and aware. networks.py reads a Network's document, layouts.py a Layout's. The
addresses themselves are models.Address: one row each, whoever has it.
"""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from provisioning.models import now, stored_json, stored_time
from provisioning.names import Name


class Network(SQLModel, table=True):
    """One network that nodes get addresses of. document: as it was put; networks.py reads it."""

    name: Name = Field(primary_key=True)
    document: dict[str, Any] = stored_json(default={})
    put_by: str = ""
    put_at: datetime = stored_time(default_factory=now)


class Layout(SQLModel, table=True):
    """How a node's NICs become bonds, VLANs and bridges, and which network is on which.

    document: as it was put; layouts.py reads it.
    """

    name: Name = Field(primary_key=True)
    document: dict[str, Any] = stored_json(default={})
    put_by: str = ""
    put_at: datetime = stored_time(default_factory=now)
