"""/baremetal: the raw Ironic door, for `baremetal`, `openstack baremetal` and other clients.

Reads on a list, an operator's few changes, and, while break-glass is open for the caller, nearly
all the rest. A change is an event before it is sent.
"""

import json
import re
from typing import Any, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlmodel import select

from api import allowed, break_glass, ironic_writes
from api.auth import Insider
from api.ironic_door import Answer, IronicDoor
from api.ironic_writes import Write
from api.parts import Door, Here, Raw
from api.problems import problem
from api.roles import Caller, Role
from provisioning import break_glass as glass
from provisioning.errors import Forbidden, NotFound, SeedError
from provisioning.models import Bmc
from provisioning.room import Rotation
from provisioning.states import MOVING, Login
from provisioning.store import Store, record
from provisioning.tenants import BreakGlass

log = structlog.get_logger()

PREFIX = "/baremetal"
_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:]{2,39}\](:\d{1,5})?")
_OUR_VERSION: Final = {"x-openstack-ironic-api-version": "1.95"}

router = APIRouter()


@router.api_route(
    PREFIX + "{path:path}",
    methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    include_in_schema=False,
)
async def raw_ironic(
    path: str, request: Request, caller: Insider, parts: Here, body: Raw
) -> Response:
    """Ironic's own API, as far as it passes, with addresses in answers pointing here."""
    if path and not path.startswith("/"):
        raise NotFound(f"there is no {PREFIX}{path} here", "seed --help")
    try:
        passed = Passing(request, caller, parts.store, allowed.normal(path), body)
        answer = await passed.answer()
    except SeedError as error:
        if error.status >= 500:
            raise
        return _refused(request, error)
    door: IronicDoor = request.app.state.ironic
    content = rewritten(answer.body, door.url, public_url(request) + PREFIX)
    return Response(content, answer.status, answer.headers)


class Passing:
    """One request on its way to Ironic."""

    def __init__(
        self, request: Request, caller: Caller, store: Store, path: str, body: bytes
    ) -> None:
        self.request, self.caller, self.store = request, caller, store
        self.path, self.body, self.method = path, body, request.method
        self.query = request.query_params.multi_items()
        self.ironic: IronicDoor = request.app.state.ironic
        self.door: Door = request.app.state.door

    async def answer(self) -> Answer:
        """Ironic's. Raises Forbidden, and its kin, for what is not sent."""
        opened = await run_in_threadpool(break_glass.opened_for, self.store, self.caller, self.door)
        if opened:
            return await self._past_the_list(opened)
        if self.method == "GET":
            allowed.check(self.method, self.path, self.query)
            return await self.ironic.read(self.path, self.request.headers, self.query)
        write = ironic_writes.find(self.method, self.path, self.query, self.body)
        if write and Role.OPERATOR in self.caller.roles:
            return await self._write(write)
        if Role.DESTROYER in self.caller.roles:
            over = await run_in_threadpool(break_glass.ran_out, self.store, self.caller, self.door)
            if over:
                raise over
        if write:
            raise Forbidden(
                f"{self.caller.name} may not do this: it takes the role operator",
                "seed token create NAME --role operator  (as root on the Seed host)",
            )
        allowed.check(self.method, self.path, self.query)
        raise AssertionError("only a GET is on that list")

    async def _write(self, write: Write) -> Answer:
        found = await self.ironic.read(write.node, _OUR_VERSION)
        if found.status != 200:
            return found
        node = json.loads(found.body)
        await run_in_threadpool(_note, self.store, write, node, self.caller.name)
        # By its UUID: a name may be another's by now.
        path = f"/v1/nodes/{node['uuid']}{write.path}"
        answer = await self.ironic.call(
            write.method, path, headers=self.request.headers, body=write.body
        )
        _log_refusal(answer, write.method, path)
        return answer

    async def _past_the_list(self, opened: BreakGlass) -> Answer:
        call = break_glass.checked(self.method, self.path, self.query, self.body)
        node_uuid = ""
        if name := break_glass.deletes_node(call):
            found = await self.ironic.read(f"/v1/nodes/{name}", _OUR_VERSION)
            if found.status != 200:
                return found
            node_uuid = json.loads(found.body)["uuid"]
        await run_in_threadpool(_note_call, self.store, opened, call, node_uuid)
        answer = await self._sent(call)
        _log_refusal(answer, call.method, call.path)
        return answer

    async def _sent(self, call: break_glass.Call) -> Answer:
        headers = self.request.headers
        if call.method == "GET":
            return await self.ironic.read(call.path, headers, call.query)
        return await self.ironic.call(
            call.method, call.path, headers=headers, query=call.query, body=call.body
        )


def _note(store: Store, write: Write, node: dict[str, Any], who: str) -> None:
    """The last check and the record of it, in one transaction."""
    with store.write() as session:
        bmc = session.exec(select(Bmc).where(Bmc.node_uuid == UUID(node["uuid"]))).first()
        off = ""
        if bmc and bmc.login is Login.REFUSED:
            off = "it refused its login, and one more may lock the account"
        elif bmc and (turn := session.get(Rotation, bmc.id)) and turn.step in MOVING:
            off = "its login is being changed"
        write.check(node, off)
        paths = [op.path for op in write.ops if op.op != "test"]
        more: dict[str, Any] = {"changed": paths} if paths else {}
        record(
            session, "node.changed-raw", node["uuid"], write.what, who=who, why=write.why, **more
        )


def _note_call(store: Store, opened: BreakGlass, call: break_glass.Call, node_uuid: str) -> None:
    with store.write() as session:
        still = glass.current(session, opened.who)
        if still is None:  # it ended while this call came in
            raise Forbidden(
                f"break-glass of {opened.who} has just ended; this call was not sent to Ironic",
                "seed break-glass open --why REASON",
            )
        if node_uuid:
            break_glass.check_deletion(session, UUID(node_uuid))
        glass.called(
            session,
            still,
            f"{call.method} {call.path}",
            query=[list(pair) for pair in call.query],
            body_sha256=call.digest,
        )


def _log_refusal(answer: Answer, method: str, path: str) -> None:
    if answer.status >= 400:
        log.info(
            "ironic.refused",
            method=method,
            path=path,
            status=answer.status,
            ironic=answer.headers.get("x-openstack-request-id", ""),
        )


def _refused(request: Request, error: SeedError) -> JSONResponse:
    """A problem that Ironic's clients show too: `error_message`, in plain application/json."""
    shown = {"faultstring": f"{error}. Try: {error.remedy}"}
    more: dict[str, Any] = {"error_message": json.dumps(shown)}
    request_id = request.state.request_id
    answer = problem(request_id, error.status, error.code, str(error), error.remedy, None, **more)
    answer.headers["content-type"] = "application/json"
    return answer


def public_url(request: Request) -> str:
    """scheme://host[:port] as the caller wrote it: all but our own socket is behind nginx's TLS."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        host = "localhost"
    scheme = "http" if request.app.state.door is Door.LOCAL else "https"
    return f"{scheme}://{host}"


def rewritten(body: bytes, ironic: str, public: str) -> bytes:
    """Links start with Ironic's own address; inside other text it is left alone."""
    start = b'"' + ironic.encode()
    for end in (b'"', b"/"):
        body = body.replace(start + end, b'"' + public.encode() + end)
    return body
