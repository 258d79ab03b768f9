"""The node gateway: exactly what a server's ramdisk, and a deployed server once, may ask for.

nginx on the provisioning wire is in front and says who calls in X-Real-IP.
"""

import json
import re
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints

from api import guard, proof
from api.baremetal import public_url, rewritten
from api.inventory import clean_macs, parse, plain_ip
from api.ironic_door import Answer, IronicDoor, closing
from api.limits import Limits
from api.parts import Door, Here, Parts, Raw
from api.problems import Safety, install
from api.traffic import Measured
from provisioning import members, parts_once, unknown
from provisioning.errors import Forbidden, NotFound, SeedError

LARGER = {"/v1/continue_inspection": 2 * 1024 * 1024}
VALUES = re.compile(r"/v1/members/values/[^/]*")
_PLAIN = ("accept", "user-agent", "x-openstack-request-id")

router = APIRouter(redirect_slashes=False)


async def _source(request: Request) -> str:
    address = plain_ip(request.headers.get("x-real-ip", ""))
    if not address:
        raise Forbidden("the caller's address is not known", "seed doctor")
    return address


async def _ironic(request: Request) -> IronicDoor:
    door: IronicDoor = request.app.state.ironic
    return door


Source = Annotated[str, Depends(_source)]
Ironic = Annotated[IronicDoor, Depends(_ironic)]


class Heartbeat(BaseModel):
    """As ironic-python-agent 13.0 sends it; what else there may be is not passed on."""

    model_config = ConfigDict(extra="forbid")

    callback_url: Annotated[str, StringConstraints(max_length=255)]
    agent_token: Annotated[str, StringConstraints(max_length=255)] | None = None
    agent_version: Annotated[str, StringConstraints(max_length=64)] | None = None
    agent_verify_ca: Annotated[str, StringConstraints(max_length=64 * 1024)] | None = None
    agent_status: Annotated[str, StringConstraints(max_length=64)] | None = None
    agent_status_message: Annotated[str, StringConstraints(max_length=4096)] | None = None


def _passed(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers)


@router.get("/")
@router.get("/v1")
async def versions(request: Request, source: Source, ironic: Ironic) -> Response:
    """Ironic's versions: the agent reads which one to speak."""
    answer = await ironic.read(request.url.path, request.headers)
    body = rewritten(answer.body, ironic.url, public_url(request))
    return Response(body, answer.status, answer.headers)


@router.get("/v1/lookup")
async def lookup(
    request: Request,
    source: Source,
    ironic: Ironic,
    parts: Here,
    addresses: Annotated[str, Query(max_length=4096)] = "",
    node_uuid: UUID | None = None,
) -> Response:
    """The agent asks who it is, and gets its token: once per order."""
    macs = clean_macs(addresses.split(","))
    before = await run_in_threadpool(guard.lookup, parts.store, macs, node_uuid, source)
    # Never the caller's words: Ironic would look for a node by every MAC that is named.
    query = [("node_uuid", str(before.node_uuid))]
    try:
        answer = await ironic.call("GET", "/v1/lookup", query=query, headers=request.headers)
    except SeedError:
        await run_in_threadpool(guard.take_back, parts.store, before)
        raise
    if answer.status != 200:
        await run_in_threadpool(guard.take_back, parts.store, before)
    return _passed(answer)


@router.post("/v1/heartbeat/{node_uuid}")
async def heartbeat(
    node_uuid: UUID,
    beat: Heartbeat,
    request: Request,
    source: Source,
    ironic: Ironic,
    parts: Here,
) -> Response:
    """The agent says that it is there, and where."""
    await run_in_threadpool(guard.heartbeat, parts.store, node_uuid, beat.callback_url, source)
    body = beat.model_dump_json(exclude_unset=True).encode()
    path = f"/v1/heartbeat/{node_uuid}"
    answer = await ironic.call("POST", path, headers=request.headers, body=body)
    if answer.status == 202:
        await run_in_threadpool(guard.heartbeat_accepted, parts.store, node_uuid, source)
    return _passed(answer)


@router.post("/v1/continue_inspection")
async def continue_inspection(
    request: Request, source: Source, ironic: Ironic, parts: Here, body: Raw
) -> Response:
    """The agent's inventory. Of a server nobody told to give one: an observation, if wanted."""
    document, seen = await run_in_threadpool(parse, body)
    try:
        await run_in_threadpool(guard.inspection, parts.store, seen, source)
    except NotFound:
        if not parts.discovery_ramdisk:
            raise
        await run_in_threadpool(unknown.note, parts.store, document, source)
        # What the agent wants for an answer. It looks for its node then, is told that there is
        # none, and asks again more and more seldom: it idles, and nothing else can be told to it.
        return JSONResponse({})
    # Without a microversion: from 1.84 on Ironic would answer with an agent token. Written anew,
    # so that Ironic reads what was checked.
    answer = await ironic.call(
        "POST",
        "/v1/continue_inspection",
        headers=request.headers,
        body=json.dumps(document).encode(),
        forward=_PLAIN,
    )
    return _passed(answer)


@router.post("/v1/phone-home", status_code=204)
def phone_home(told: Annotated[proof.PhoneHome, Body()], source: Source, parts: Here) -> None:
    """A deployed server's own word, with the one-time token of its order."""
    proof.accept(parts.store, told, source)


@router.get("/v1/parts/{token}", response_class=Response)
def part(token: str, source: Source, parts: Here) -> Response:
    """A one-time part of a deployed server, to that server."""
    told = parts_once.read(parts.store, token, source)
    headers = {"Cache-Control": "no-store"}
    return Response(told.content, media_type="application/octet-stream", headers=headers)


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


Token = Annotated[str, Depends(_token)]


@router.post("/v1/members", status_code=204)
def member(
    told: Annotated[members.Report, Body()], token: Token, source: Source, parts: Here
) -> None:
    """How far a cluster's member is, with the token that it was deployed with."""
    members.report(parts.store, token, source, told)


@router.get("/v1/members/orders")
def orders(token: Token, source: Source, parts: Here) -> dict[str, Any]:
    """What the seed wants of a member now: provisioning/on_node/member.py asks all the time."""
    return members.orders(parts.store, token, source)


@router.put("/v1/members/values/{name}", status_code=204)
def give(name: str, token: Token, source: Source, parts: Here, body: Raw) -> None:
    """What a member gives its cluster's other members; encrypted, and at most 64 KiB."""
    members.put(parts.store, token, source, name, body)


@router.get("/v1/members/values/{name}", response_class=Response)
def given(name: str, token: Token, source: Source, parts: Here) -> Response:
    """What another member gave; 404 while there is none."""
    content = members.get(parts.store, token, source, name)
    headers = {"Cache-Control": "no-store"}
    return Response(content, media_type="application/octet-stream", headers=headers)


def create_gateway(parts: Parts) -> FastAPI:
    """The gateway's application. It has no documentation route: exactly the above."""
    door = IronicDoor(parts.ironic_url)  # no login: these routes of Ironic's take none
    app = FastAPI(
        title="Seed node gateway",
        openapi_url=None,
        redirect_slashes=False,
        lifespan=closing(door),
    )
    app.state.parts, app.state.ironic, app.state.door = parts, door, Door.GATEWAY
    install(app)
    app.include_router(router)
    app.add_middleware(Limits, larger=LARGER, untyped=True, opaque=VALUES)
    app.add_middleware(Safety)
    app.add_middleware(Measured, traffic=parts.traffic)
    return app
