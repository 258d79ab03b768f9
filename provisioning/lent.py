"""Claims whose nodes another owner has, Metal3 or an overcloud's Ironic: rows, and who asks.

lending.py is the reconciler's half. While they are lent, their BMCs' login is `Login.LENT`: nobody
of Seed's says anything to them, and Ironic's hands are off by maintenance.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlmodel import Field, Session, SQLModel, col, select

from provisioning import handout, leasing
from provisioning.cluster_rows import Member
from provisioning.disks import kept_of
from provisioning.errors import Conflict, NotFound
from provisioning.handout import HandOutNode
from provisioning.models import Bmc, Claim, Credential, Hold, now, stored_time
from provisioning.room import Rotation
from provisioning.states import Borrower, ClaimState, LendingStep, Login, RotationStep, Wanted
from provisioning.store import Store, record
from provisioning.vault import in_vault

COMING = (LendingStep.RETURNING, LendingStep.ROTATED, LendingStep.OFF)
OWNERS: Final = {Borrower.METAL3: "Metal3", Borrower.IRONIC: "the overcloud's Ironic"}
LEND: Final = {Borrower.METAL3: "seed metal3 lend", Borrower.IRONIC: "seed ironic lend"}
"""What people type."""


class Lending(SQLModel, table=True):
    """One row per claim, until its nodes are back.

    asked_at:    the last time that somebody asked. since: of its step.
    keep_logins: they come back with the BMC logins that the other owner knows. borrower: that one;
    a claim is never lent to two, so its logins are written in one form alone.
    """

    claim_id: UUID = Field(primary_key=True, foreign_key="claim.id")
    asked_by: str = ""
    asked_at: datetime = stored_time(default_factory=now)
    keep_logins: bool = False
    step: LendingStep = LendingStep.ASKED
    since: datetime = stored_time(default_factory=now)
    borrower: Borrower = Borrower.METAL3

    @property
    def owner(self) -> str:
        """Within a sentence."""
        return OWNERS[self.borrower]

    @property
    def fence(self) -> str:
        """Why Ironic's hands are off."""
        return (
            f"{self.owner[0].upper()}{self.owner[1:]} has this server until its claim is released"
        )


def ask(
    store: Store,
    find: Callable[[Session], Claim],
    who: str,
    keep_logins: bool = False,
    to: Borrower = Borrower.METAL3,
) -> tuple[Lending, Claim]:
    """This claim's nodes shall be another owner's until the claim is released.

    Asked again: keep_logins is what was said last. Raises Conflict, and nothing is written then.
    """
    with store.write() as session:
        claim = find(session)
        row = session.get(Lending, claim.id)
        if row is None:
            _check(session, claim, keep_logins)
            row = Lending(claim_id=claim.id, borrower=to)
            record(
                session, "claim.lend-asked", claim.id, claim.name, who=who, project=claim.project,
                keep_logins=keep_logins, to=to,
            )  # fmt: skip
        elif row.borrower is not to:
            raise Conflict(
                f"{row.owner} has the nodes of claim {claim.name}",
                f"Release it first: `seed claim release {claim.name}`.",
            )
        elif row.keep_logins is not keep_logins:
            record(
                session, "claim.lend-logins", claim.id,
                f"{claim.name}: its BMCs {'keep' if keep_logins else 'change'} their logins",
                who=who, project=claim.project,
            )  # fmt: skip
        row.asked_by, row.asked_at, row.keep_logins = who, now(), keep_logins
        session.add(row)
        return row, claim


def find(session: Session, name: str) -> Claim:
    """A lent claim by name or UUID. Raises NotFound, Conflict for a name that two projects use."""
    found = [claim for _row, claim, _bmcs in all_of(session) if name in (claim.name, str(claim.id))]
    if not found:
        raise NotFound(f"no claim {name!r} is lent", "`seed metal3 list`")
    if len(found) > 1:
        raise Conflict(
            f"more than one lent claim is named {name}",
            "Say which by its id: `seed claim list -o json`.",
        )
    return found[0]


def all_of(session: Session) -> list[tuple[Lending, Claim, list[Bmc]]]:
    """By claim's name; BMCs in the order of their nodes."""
    query = select(Lending, Claim).join(Claim, col(Claim.id) == col(Lending.claim_id))
    rows = session.exec(query.order_by(col(Claim.name))).all()
    return [(row, claim, bmcs_of(session, claim.id)) for row, claim in rows]


def bmcs_of(session: Session, claim_id: UUID) -> list[Bmc]:
    query = select(Bmc).join(Hold, col(Hold.node_uuid) == col(Bmc.node_uuid))
    held = query.where(Hold.claim_id == claim_id).order_by(col(Hold.position))
    return list(session.exec(held).all())


def servers(session: Session, claim: Claim, to: Borrower) -> list[tuple[Bmc, HandOutNode]]:
    """What of this claim may be written for its other owner. Raises Conflict while Seed may still
    act on its nodes, and for an owner who has not got them."""
    row = session.get(Lending, claim.id)
    if row is None or row.step is not LendingStep.LENT or row.borrower is not to:
        raise Conflict(
            f"the nodes of claim {claim.name} are {_whose(row, to)}",
            f"`{LEND[to]} {claim.name}`, then look: `seed claim show {claim.name}`.",
        )
    nodes = {node.node_uuid: node for node in handout.of_claim(session, claim, "").nodes}
    return [(bmc, nodes[bmc.node]) for bmc in bmcs_of(session, claim.id)]


def _whose(row: Lending | None, to: Borrower) -> str:
    if row is None:
        return "Seed's"
    return f"on their way: {row.step}" if row.borrower is to else f"lent elsewhere: {row.borrower}"


def comes_back(session: Session, claim_id: UUID) -> bool:
    """Is Seed taking its nodes from their other owner?"""
    row = session.get(Lending, claim_id)
    return row is not None and row.step in COMING


def _check(session: Session, claim: Claim, keep_logins: bool) -> None:
    over = claim.wanted is not Wanted.ACTIVE or leasing.is_over(claim)
    if claim.state is not ClaimState.ACTIVE or over:
        raise Conflict(
            f"claim {claim.name} is {'given back' if over else claim.state}: only an active one "
            "can be lent",
            f"See how far it is: `seed claim show {claim.name}`.",
        )
    if session.exec(select(Member.id).where(Member.claim_id == claim.id)).first() is not None:
        raise Conflict(
            f"claim {claim.name} is a member of a cluster of Seed's",
            "Claim other nodes to lend: `seed claim create`.",
        )
    for bmc in bmcs_of(session, claim.id):
        _check_bmc(session, bmc, keep_logins)


def _check_bmc(session: Session, bmc: Bmc, keep_logins: bool) -> None:
    change, login = session.get(Rotation, bmc.id), session.get(Credential, bmc.credential_id)
    if bmc.login is not Login.OK or login is None:
        raise Conflict(
            f"no login to BMC {bmc.address} works",
            f"Give one: `seed discover {bmc.address} --username U --password-stdin`.",
        )
    if in_vault(login):
        raise Conflict(
            f"the login of BMC {bmc.address} is kept elsewhere, Seed cannot hand it on",
            f"Give it one that Seed has: `seed bmc rotate {bmc.address}`.",
        )
    if kept_of(session, bmc.node):
        raise Conflict(
            f"{bmc.node_name} has disks that are kept, of which another owner knows nothing",
            f"See which: `seed node disks {bmc.node_name}`.",
        )
    if change is not None and change.step is not RotationStep.FAILED:
        raise Conflict(
            f"the login of BMC {bmc.address} is being changed",
            f"See how far it is: `seed bmc show {bmc.address}`.",
        )
    if change is not None and not keep_logins:
        raise Conflict(
            f"BMC {bmc.address} took no new login, so the other owner could not be kept out later",
            "If it may keep the login that it has: the same with `--keep-logins`.",
        )
