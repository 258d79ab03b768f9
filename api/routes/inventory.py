"""What other tools read of hand-outs: OpenSSH, Ansible, Prometheus. A claimer sees its project."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.auth import Anyone
from api.parts import Here
from api.roles import Caller
from provisioning import handout, image, renderings
from provisioning.errors import Forbidden, NotFound
from provisioning.handout import HandOut
from provisioning.names import HostLabel
from provisioning.renderings import Target
from provisioning.states import ClaimState

router = APIRouter(tags=["inventory"])
TEXT = "text/plain; charset=utf-8"
OfProject = Annotated[HostLabel | None, Query()]


@router.get("/v1/claims/{name}/ssh_config", response_class=Response)
def ssh_config(name: str, caller: Anyone, parts: Here) -> Response:
    """Host blocks of OpenSSH's ssh_config for a claim's nodes; empty until it is active."""
    return Response("".join(map(renderings.ssh_config, _one(name, caller, parts))), media_type=TEXT)


@router.get("/v1/claims/{name}/inventory")
def claim_inventory(name: str, caller: Anyone, parts: Here) -> dict[str, Any]:
    """A claim's nodes as an Ansible inventory program answers --list; empty until it is active."""
    return renderings.inventory(_one(name, caller, parts))


@router.get("/v1/inventory")
def inventory(caller: Anyone, parts: Here, project: OfProject = None) -> dict[str, Any]:
    """Everything that is handed out, as an Ansible inventory program answers --list.

    A claimer's is its own project's; everybody else may say which, or see all.
    """
    return renderings.inventory(_active(project, caller, parts))


@router.get("/v1/prometheus-targets")
def prometheus_targets(
    caller: Anyone,
    parts: Here,
    port: Annotated[int, Query(ge=1, le=65535)] = 9100,
    project: OfProject = None,
) -> list[Target]:
    """Everything that is handed out, for Prometheus' http_sd_configs; port: the exporter's."""
    return renderings.targets(_active(project, caller, parts), port)


def _one(name: str, caller: Caller, parts: Here) -> list[HandOut]:
    with parts.store.read() as session:
        claim = parts.desk.find(session, caller.looks_in, name)
        if claim.state is not ClaimState.ACTIVE:
            return []
        return handout.of_claims(session, [claim], _users(parts), parts.networks)


def _active(project: str | None, caller: Caller, parts: Here) -> list[HandOut]:
    """Raises Forbidden for another project than a claimer's own, whether there is one or not."""
    if project is not None and not caller.sees(project):
        raise Forbidden(
            f"{caller.name} sees the project {caller.project} only",
            "Leave the project out: `seed inventory --list`.",
        )
    seen = project if caller.sees_all else caller.project
    with parts.store.read() as session:
        return handout.active(session, seen, _users(parts), parts.networks)


def _users(parts: Here) -> Callable[[str], str]:
    """Image -> the login that it creates; empty for one that is not published any more."""

    def of(name: str) -> str:
        try:
            return image.find(parts.image_dir, name).ssh_user or ""
        except NotFound:
            return ""

    return of
