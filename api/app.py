"""The API of one door, put together."""

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from api import baremetal, declared, docs_page, spec
from api.auth import Anyone, Authenticate
from api.idempotency import Idempotency
from api.ironic_door import IronicDoor, closing
from api.limits import Limits, none_unasked
from api.parts import Door, Parts
from api.problems import Path, Safety, install
from api.rates import Failing, PerCaller
from api.representation import Representation
from api.roles import noun_of
from api.routes import (
    adoptions,
    bmcs,
    break_glass,
    ca,
    claims,
    classes,
    cluster_access,
    cluster_autoscaler,
    cluster_changes,
    clusters,
    credentials,
    discoveries,
    events,
    health,
    image_intakes,
    images,
    inspections,
    inventory,
    kept_disks,
    layouts,
    lendings,
    login_methods,
    metrics,
    networks,
    nodes,
    observations,
    overclouds,
    previews,
    projects,
    racks,
    sessions,
    timelines,
    tokens,
    users,
    webhooks,
)
from api.traffic import Measured

ROUTERS: Final[tuple[APIRouter, ...]] = (
    claims.router,  # first, as routes are tried in their order and these are asked most
    health.router,
    metrics.router,
    ca.router,
    sessions.router,
    login_methods.router,
    tokens.router,
    users.router,
    projects.router,
    credentials.router,
    images.router,
    image_intakes.router,
    events.router,
    timelines.router,
    webhooks.router,
    bmcs.router,
    discoveries.router,
    nodes.router,
    kept_disks.router,
    observations.router,
    inspections.router,
    classes.router,
    networks.router,
    layouts.router,
    lendings.router,
    clusters.router,
    overclouds.router,
    cluster_changes.router,
    adoptions.router,
    previews.router,
    inventory.router,
    racks.router,
    cluster_access.router,
    break_glass.router,
    cluster_autoscaler.router,
    # One more noun: its router here, and a row per route in tests/contract/test_api_roles.py.
    baremetal.router,
)

_spec = APIRouter()


@_spec.get("/v1/openapi.json", include_in_schema=False)
def openapi(request: Request, caller: Anyone) -> dict[str, Any]:
    """This API's own description, OpenAPI 3.1."""
    app: FastAPI = request.app
    return app.openapi()


class _Described(FastAPI):
    """FastAPI whose document is ours."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            routers = (*ROUTERS, _spec)
            self.openapi_schema = spec.document(self.title, self.version, _routes(routers))
        return self.openapi_schema


def create_app(parts: Parts, door: Door) -> FastAPI:
    """The application behind `door`. Raises TypeError for a route that declares no role."""
    routers = (*ROUTERS, _spec, docs_page.router)
    paths = declared.table(routers)
    ironic = IronicDoor(
        parts.ironic_url, (parts.ironic_user, parts.ironic_password.get_secret_value())
    )
    app = _Described(
        title="Seed",
        version=_version(),
        openapi_url=None,  # ours demands a role
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=closing(ironic),
    )
    app.state.parts, app.state.ironic, app.state.door = parts, ironic, door
    app.state.nouns = {noun_of(path) for _, path in paths}  # what a token's scopes may name
    app.state.paths = [
        (Path(route.path_regex, len(re.sub(r"{.*?}", "", route.path))), route.methods or set())
        for route in _routes(routers)
    ]
    install(app)
    app.router.routes.extend(_served(routers))
    # The last one added is the outermost.
    files = {**observations.FILES, **racks.FILES}
    app.add_middleware(Representation)
    app.add_middleware(Idempotency, store=parts.store)
    app.add_middleware(Limits, larger=files, files=files)
    app.add_middleware(PerCaller, rates=parts.rates)
    app.add_middleware(Authenticate, door=door, parts=parts)
    app.add_middleware(Failing, door=door, rates=parts.rates)
    app.add_middleware(Safety)
    app.add_middleware(Measured, traffic=parts.traffic)
    return app


_SERVED: Final[dict[tuple[int, ...], APIRouter]] = {}
"""By the identities of the routers within; they have no hash, and live as long as what has them."""


def _served(routers: tuple[APIRouter, ...]) -> Sequence[BaseRoute]:
    """What applications serve, made once: FastAPI makes the fields of a route anew wherever that is
    included, 0.2 s of CPU for all of ours (measured 2026-11-30), a quarter of a test's."""
    key = tuple(map(id, routers))
    if key not in _SERVED:
        whole = APIRouter()
        for router in routers:
            whole.include_router(router, dependencies=[Depends(none_unasked)])
        _SERVED[key] = whole
    return _SERVED[key].routes


def _routes(routers: Iterable[APIRouter]) -> Iterator[APIRoute]:
    for router in routers:
        yield from (route for route in router.routes if isinstance(route, APIRoute))


def route_table() -> declared.Table:
    """Every route of the API with the roles it demands, for tests and documentation."""
    return declared.table((*ROUTERS, _spec, docs_page.router))


def _version() -> str:
    try:
        return version("seed-undercloud")
    except PackageNotFoundError:  # run from a checkout
        return "0"
