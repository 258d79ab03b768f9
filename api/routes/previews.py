"""Previews: the config drives of a claim, made or not, as its nodes would get them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel
from sqlmodel import Session

from api.auth import needs
from api.claim_ask import ClaimAsk
from api.parts import Here, Parts
from api.roles import Caller, Role
from provisioning import on_node, preview, secret_files
from provisioning.models import Claim
from provisioning.preview import Place, Preview, Site

router = APIRouter(tags=["claims"])

Maker = Annotated[Caller, Depends(needs(Role.CLAIMER, Role.OPERATOR))]
"""Whose user-data it is, and who is asked when it does not work."""


class PreviewFile(BaseModel):
    """A file that the node writes itself. mode: octal."""

    path: str
    mode: str
    content: str


class PreviewPart(BaseModel):
    """A one-time part: what is in it, and its URL, nobody is told."""

    name: str
    path: str
    mode: str
    owner: str


class NodePreview(BaseModel):
    """What one node would be told.

    vendor_data:  the parts of Seed's own, which run beside the caller's user-data.
    wanted:       what its proof must show, beside its NICs.
    stored_bytes: of the drive in Ironic's database; packed_bytes: as the ramdisk gets it, at most.
    faults:       why no disk would be touched; empty: it is fine.
    """

    hostname: str
    node: str
    node_uuid: UUID
    meta_data: dict[str, Any]
    network_data: dict[str, Any]
    user_data: str
    vendor_data: list[str]
    files: list[PreviewFile]
    parts: list[PreviewPart]
    wanted: dict[str, Any]
    stored_bytes: int
    packed_bytes: int
    faults: list[str]
    warnings: list[str]


class PreviewOut(BaseModel):
    """sentence: what would become of the claim. count: its nodes; a few of many are shown."""

    claim: str
    sentence: str
    count: int
    nodes: list[NodePreview]


@router.post("/v1/claims:preview")
def preview_claim(ask: ClaimAsk, caller: Maker, parts: Here, response: Response) -> PreviewOut:
    """The config drives of such a claim, for the nodes that it would get now. Nothing is held."""
    secret_files.check(ask.secret_files)
    told = parts.desk.explain(ask.spec, caller.project, caller.sees_all)
    listing = secret_files.listing(ask.secret_files)
    with parts.store.read() as session:
        claim = parts.desk.draft(session, ask.spec, caller.project, caller.sees_all)
        places = preview.places_named(session, told.chosen)
        return _out(session, parts, response, claim, told.sentence, places, listing)


@router.get("/v1/claims/{name}/preview")
def show_preview(name: str, caller: Maker, parts: Here, response: Response) -> PreviewOut:
    """The config drives of a claim's nodes, without the tokens that are in them."""
    with parts.store.read() as session:
        claim = parts.desk.find(session, caller.looks_in, name)
        places = preview.places_of(session, claim)
        sentence = f"claim {claim.name} is {claim.state}"
        listing = secret_files.listed(session, claim)
        return _out(session, parts, response, claim, sentence, places, listing)


def _out(
    session: Session,
    parts: Parts,
    response: Response,
    claim: Claim,
    sentence: str,
    places: list[Place],
    listing: list[dict[str, str]],
) -> PreviewOut:
    response.headers["Cache-Control"] = "no-store"
    site = Site(parts.ca_pem.read_text(), parts.networks.get("provisioning"))
    shown = preview.of_places(session, claim, places[: preview.SHOWN], site, listing)
    return PreviewOut(
        claim=claim.name, sentence=sentence, count=len(places), nodes=[_node(p) for p in shown]
    )


def _node(seen: Preview) -> NodePreview:
    return NodePreview(
        hostname=seen.hostname,
        node=seen.node,
        node_uuid=seen.node_uuid,
        meta_data=seen.drive["meta_data"],
        network_data=seen.drive["network_data"],
        user_data=seen.drive["user_data"],
        vendor_data=on_node.parts_of(seen.drive["vendor_data"]["cloud-init"]),
        files=[
            PreviewFile(path=f.path, mode=f"{f.mode:04o}", content=f.content) for f in seen.files
        ],
        parts=[
            PreviewPart(name=p.name, path=p.path, mode=f"{p.mode:04o}", owner=p.owner)
            for p in seen.parts
        ],
        wanted=seen.wanted,
        stored_bytes=seen.stored_bytes,
        packed_bytes=seen.packed_bytes,
        faults=seen.faults,
        warnings=seen.warnings,
    )
