"""Claims whose nodes another owner has. Never a login: files are made on the Seed machine, by
`seed metal3 export` and `seed ironic export`."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from api.auth import Insider, Operator
from api.parts import Here
from provisioning import lent
from provisioning.models import Bmc, Claim
from provisioning.states import Borrower

router = APIRouter(tags=["claims"])


class LendAsk(BaseModel):
    """keep_logins: the BMCs come back with the logins that the other owner knows. to: that one."""

    model_config = ConfigDict(extra="forbid")
    keep_logins: bool = False
    to: Borrower = Borrower.METAL3


class LendingOut(BaseModel):
    """step: asked, quiet, lent; and back: returning, rotated, off. detail, problem: the claim's."""

    claim: str
    project: str
    nodes: list[str]
    to: Borrower
    step: str
    keep_logins: bool
    asked_by: str
    asked_at: datetime
    detail: str
    problem: str
    remedy: str


@router.post("/v1/claims/{name}:lend")
def lend(name: str, ask: LendAsk, caller: Operator, parts: Here) -> LendingOut:
    """Its nodes are another owner's until it is released: Seed and its Ironic leave them alone.

    Asked again, keep_logins is what was said last.
    """
    row, claim = lent.ask(
        parts.store,
        lambda session: parts.desk.find(session, None, name),
        caller.name,
        ask.keep_logins,
        ask.to,
    )
    with parts.store.read() as session:
        return _out(row, claim, lent.bmcs_of(session, claim.id))


@router.get("/v1/lendings")
def list_lendings(caller: Insider, parts: Here) -> list[LendingOut]:
    """Claims that are lent, on their way there, or on their way back."""
    with parts.store.read() as session:
        return [_out(*one) for one in lent.all_of(session)]


def _out(row: lent.Lending, claim: Claim, bmcs: list[Bmc]) -> LendingOut:
    return LendingOut(
        claim=claim.name, project=claim.project, nodes=[bmc.node_name or "" for bmc in bmcs],
        to=row.borrower, step=row.step, keep_logins=row.keep_logins, asked_by=row.asked_by,
        asked_at=row.asked_at,
        detail=claim.detail, problem=claim.problem, remedy=claim.remedy,
    )  # fmt: skip
