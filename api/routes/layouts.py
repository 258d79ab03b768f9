"""Layouts: how nodes' NICs are used. Operators put them, claims name them."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import col, select

from api.auth import Anyone, Operator
from api.parts import Here
from api.roles import Caller
from api.routes.networks import DocumentText, named, same_name
from provisioning import fabric_rules
from provisioning.class_text import parse_as
from provisioning.fabric import Layout
from provisioning.fabric_text import written
from provisioning.layout_doc import LayoutDoc, layout_of

router = APIRouter(prefix="/v1/layouts", tags=["layouts"])
EXAMPLE = "See one: `seed layout list`, then `seed layout show NAME`; docs/networks.md has more."


class LayoutOut(BaseModel):
    """One layout. nics: role -> how many NICs it takes. links: what networks can be on."""

    name: str
    nics: dict[str, int]
    links: list[str]
    networks: list[str]
    put_by: str
    put_at: datetime


class LayoutFull(LayoutOut):
    document: dict[str, Any]
    text: str


@router.get("")
def list_layouts(caller: Anyone, parts: Here) -> list[LayoutOut]:
    """Every layout, by name."""
    with parts.store.read() as session:
        rows = session.exec(select(Layout).order_by(col(Layout.name))).all()
        return [LayoutOut(**_out(row, caller)) for row in rows]


@router.get("/{name}")
def show_layout(name: str, caller: Anyone, parts: Here) -> LayoutFull:
    """One layout, whole."""
    with parts.store.read() as session:
        return _full(fabric_rules.find_layout(session, name), caller)


@router.put("/{name}")
def put_layout(name: str, ask: DocumentText, caller: Operator, parts: Here) -> LayoutFull:
    """Keep a layout, or a new version of it; the same again changes nothing.

    Claims that live keep theirs as it was when they were asked for.
    """
    doc = parse_as(LayoutDoc, named(name, ask.text), "layout", EXAMPLE)
    same_name(name, doc.name)
    with parts.store.write() as session:
        return _full(fabric_rules.put_layout(session, doc, caller.name), caller)


@router.delete("/{name}")
def delete_layout(name: str, caller: Operator, parts: Here) -> list[str]:
    """Forget a layout; the name."""
    with parts.store.write() as session:
        fabric_rules.delete_layout(session, name, caller.name)
    return [name]


def _out(row: Layout, caller: Caller) -> dict[str, Any]:
    doc = layout_of(row.document)
    return {
        "name": doc.name,
        "nics": {role: pick.count for role, pick in doc.nics.items()},
        "links": list(doc.links),
        "networks": [one.network for one in doc.networks],
        "put_by": row.put_by if caller.sees_all else "",
        "put_at": row.put_at,
    }


def _full(row: Layout, caller: Caller) -> LayoutFull:
    text = written(layout_of(row.document).stored())
    return LayoutFull(**_out(row, caller), document=row.document, text=text)
