"""Alive and ready: the only answers for somebody we do not know."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.ironic_door import IronicDoor
from api.parts import Here
from api.problems import problem
from provisioning.store import Store

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, parts: Here) -> Any:  # noqa: ANN401
    """The database and Ironic answer too; 503 says which one does not."""
    ironic: IronicDoor = request.app.state.ironic
    store = await run_in_threadpool(_answers, parts.store)
    found = {"store": store, "ironic": await ironic.alive()}
    if all(found.values()):
        return {"status": "ok", **found}
    return _not_ready(request.state.request_id, found)


def _not_ready(request_id: str, found: dict[str, bool]) -> JSONResponse:
    down = " and ".join(name for name, up in found.items() if not up)
    headers = {"Retry-After": "5"}
    detail, remedy = f"not ready: no answer from {down}", "seed status"
    return problem(request_id, 503, "not-ready", detail, remedy, headers, **found)


def _answers(store: Store) -> bool:
    try:
        with store.read() as session:
            session.connection().execute(text("SELECT count(*) FROM token"))
    except SQLAlchemyError:
        return False
    return True
