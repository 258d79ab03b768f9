"""A route without a declared role cannot exist: the API does not start with one."""

from collections.abc import Iterable, Iterator

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.auth import PUBLIC, Needs
from api.roles import Role

Table = dict[tuple[str, str], frozenset[Role]]
"""(method, path) -> roles of which one is enough; empty: it answers anybody."""


def table(routers: Iterable[APIRouter]) -> Table:
    """What each route demands. Raises TypeError for a route that demands nothing."""
    found: Table = {}
    for router in routers:
        for route in router.routes:
            if not isinstance(route, APIRoute):
                raise TypeError(f"{route} is not a plain route: include its router in api/app.py")
            for method in sorted(route.methods or ()):
                found[method, route.path] = _demand(method, route)
    return found


def _demand(method: str, route: APIRoute) -> frozenset[Role]:
    if (method, route.path) in PUBLIC:
        return frozenset()
    for call in _calls(route.dependant):
        if isinstance(call, Needs) and call.roles:
            return call.roles
    raise TypeError(f"{route.path} declares no role: give it a caller argument of api/auth.py")


def _calls(dependant: Dependant) -> Iterator[object]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)
