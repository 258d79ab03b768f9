"""/baremetal: the raw Ironic door, for `baremetal`, `openstack baremetal` and other readers."""

import json
import re
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import allowed
from api.auth import Insider
from api.ironic_door import IronicDoor
from api.parts import Door
from api.problems import problem
from provisioning.errors import Forbidden, NotFound

PREFIX = "/baremetal"
_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:]{2,39}\](:\d{1,5})?")

router = APIRouter()


@router.api_route(
    PREFIX + "{path:path}",
    methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    include_in_schema=False,
)
async def raw_ironic(path: str, request: Request, caller: Insider) -> Response:
    """Ironic's own API, reads only, with addresses in answers pointing here."""
    if path and not path.startswith("/"):
        raise NotFound(f"there is no {PREFIX}{path} here", "seed --help")
    query = request.query_params.multi_items()
    try:
        plain = allowed.normal(path)
        allowed.check(request.method, plain, query)
    except Forbidden as error:
        return _refused(request, error)
    door: IronicDoor = request.app.state.ironic
    answer = await door.read(plain, request.headers, query)
    body = rewritten(answer.body, door.url, public_url(request) + PREFIX)
    return Response(body, answer.status, answer.headers)


def _refused(request: Request, error: Forbidden) -> JSONResponse:
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
