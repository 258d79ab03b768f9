"""Claims: ask for nodes, and be told why there are none or when there will be.

holding.py has the rows that it writes, claim_changes.py what can be changed later, claim_steps.py
the reconciler's side.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import (
    addressing,
    choosing,
    fabric_rules,
    holding,
    pool,
    projects,
    quotas,
    refusing,
    wishes,
)  # fmt: skip
from provisioning.choosing import Wish
from provisioning.claim_changes import Changes, may_have_no_end, may_last
from provisioning.errors import Conflict
from provisioning.layout_doc import of_claim
from provisioning.models import Claim, ClaimSpec, now
from provisioning.networks import networks
from provisioning.pool import Inventories, Pool
from provisioning.secret_files import Sealing
from provisioning.states import ClaimState, IfFull
from provisioning.store import record

AS_NEW = timedelta(seconds=refusing.AS_NEW)
NO_FILES = Sealing()
CHANGEABLE = frozenset({"protected", "priority", "if_full"})
"""Parts of a wish that have verbs of their own: they may differ when a wish is repeated."""


@dataclass(frozen=True)
class Explained:
    """What would become of a claim. rules: a node's name -> what keeps it from it; none: it fits.

    nearest: those that lack least. free_at: when all of it could be had; None: nobody knows.
    """

    chosen: list[str]
    rules: dict[str, list[str]]
    nearest: dict[str, list[str]]
    free_at: datetime | None
    sentence: str


@dataclass(frozen=True)
class Desk(Changes):
    """Where claims are asked for and taken back: the API's half."""

    _parts: Inventories = field(default_factory=Inventories)
    _seen: list[tuple[int, Pool]] = field(default_factory=list)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _refusals: refusing.Refusals = field(default_factory=refusing.Refusals)

    def request(
        self,
        spec: ClaimSpec,
        project: str,
        who: str,
        insider: bool = False,
        files: Sealing = NO_FILES,
    ) -> tuple[Claim, bool]:
        """Claim and holds in one transaction, or nothing; (claim, was it new).

        The same name with the same wish is the same claim. insider: may read which others hold
        what. files: sealed with it. Raises Invalid, NotFound (image), Conflict (name, quota),
        NoCapacity with the rule that rejected each node. Ironic is not asked.
        """
        wishes.check(spec)
        files.check()
        with self.store.read() as session:
            if same := _living(session, project, spec.name):
                files.same(session, same)
                return _same_wish(same, spec), False
        wishes.check_times(spec, now())
        if spec.if_full is IfFull.REFUSE:
            self._refuse_early(spec, project, insider)
        with self.store.write() as session:
            same = _living(session, project, spec.name)
            if same is not None:
                files.same(session, same)
                return _same_wish(same, spec), False
            claim = self.draft(session, spec, project, insider)
            claim.asked_by = who
            admit(session, claim, now())
            session.add(claim)
            session.flush()
            files.keep(session, claim)
            seen = self._look(session)
            w = holding.wish(session, claim, seen, self._parts)
            self._begin(session, claim, seen, w, insider)
            record(
                session, "claim.requested", claim.id,
                f"{spec.name}: {spec.count} x {spec.resource_class}", who=who, project=project,
                state=str(claim.state),
            )  # fmt: skip
            return claim, True

    def request_each(
        self,
        session: Session,
        spec: ClaimSpec,
        names: Sequence[str],
        project: str,
        who: str,
        insider: bool = False,
    ) -> list[Claim]:
        """In the caller's transaction: a claim of one node for each name, chosen together as `spec`
        says, a wish for so many. Raises as `request` does."""
        wishes.check(spec)
        whole = self.draft(session, spec, project, insider)
        admit(session, whole, now(), endless=True)
        seen = pool.look(session, now(), self.turnaround)  # with what this transaction holds
        w = holding.wish(session, whole, seen, self._parts)
        alone = {"count": 1, "spread": "", "pack": "", "asked_by": who}
        claims = [
            Claim(**whole.model_dump(exclude={"id"}) | alone | {"name": name}) for name in names
        ]
        for claim in claims:
            if _living(session, project, claim.name):
                raise Conflict(
                    f"a claim named {claim.name} lives already",
                    f"Choose another name, or release it first: `seed claim release {claim.name}`.",
                )
        session.add_all(claims)
        session.flush()
        try:
            holding.take_each(session, claims, seen, w)
        except holding.Short as short:
            raise refusing.refusal(seen, w, short.choice, project, insider) from short
        return claims

    def _begin(self, session: Session, claim: Claim, seen: Pool, w: Wish, insider: bool) -> None:
        try:
            holding.take(session, claim, seen, w) if w.now else holding.book(
                session, claim, seen, w
            )
            claim.state = ClaimState.REQUESTED if w.now else ClaimState.RESERVED
        except holding.Short as short:
            if claim.if_full is IfFull.REFUSE:
                raise refusing.refusal(seen, w, short.choice, claim.project, insider) from short
            if not refusing.could_ever(seen, w, claim.count):
                raise refusing.refusal(seen, w, short.choice, claim.project, insider) from short
            claim.state = ClaimState.QUEUED
        session.add(claim)

    def draft(self, session: Session, spec: ClaimSpec, project: str, insider: bool) -> Claim:
        """The claim as it would be, with what is fixed when it is asked for."""
        claim = Claim(**spec.model_dump(), project=project)
        claim.grace_seconds = int(self.grace.total_seconds())
        image = self.image(session, spec.image, insider)
        claim.min_disk_gib, claim.image_version = image.min_disk_gib, image.version
        if spec.root_raid and not image.root_raid:
            raise Conflict(
                f"image {image.name} cannot have its root on a mirror",
                "Leave out root_raid, or take an image that can: `seed image list`.",
            )
        if "disk" not in image.files or image.format == "ramdisk":
            raise Conflict(
                f"image {image.name} is not for disks of servers",
                "Take one that is: `seed image list`.",
            )
        claim.layout_document = (
            dict(fabric_rules.find_layout(session, spec.layout).document) if spec.layout else {}
        )
        layout = of_claim(claim)
        why = addressing.never(layout, networks(session), spec.count) if layout else ""
        if why:
            raise Conflict(why, f"Ask for fewer, or see `seed layout show {spec.layout}`.")
        return claim

    def _refuse_early(self, spec: ClaimSpec, project: str, insider: bool) -> None:
        """Most refusals need no write lock, and share one look at the pool."""
        wish = sha256(spec.model_dump_json(exclude={"name"}).encode()).digest()
        key, version = (wish, project, insider), self.store.version()
        if told := self._refusals.again(key, version, spec.name):
            raise told
        with self.store.read() as session:
            seen = self._look(session)
            claim = self.draft(session, spec, project, insider)
            w = holding.wish(session, claim, seen, self._parts)
        choice = choosing.choose(seen, w)
        if len(choice.chosen) < spec.count:
            told = refusing.refusal(seen, w, choice, project, insider)
            self._refusals.keep(key, version, spec.name, told)
            raise told

    def _look(self, session: Session) -> Pool:
        """The pool now; the last look again while nobody wrote anything since.

        One looks while the others wait: hundreds who ask at once share it. `session` must not
        have read anything yet, or be a writer, which nobody else's commit can overtake.
        """
        with self._looking:
            version, at = self.store.version(), now()
            kept = self._seen[-1] if self._seen else None
            if kept and kept[0] == version and timedelta(0) <= at - kept[1].at < AS_NEW:
                return replace(kept[1], at=at)
            seen = pool.look(session, at, self.turnaround)
            self._seen[:] = [(version, seen)]
            return seen

    def explain(self, spec: ClaimSpec, project: str, insider: bool) -> Explained:
        """What request() would do with it now, and why. Nothing is written."""
        wishes.check(spec, keys=bool(spec.ssh_keys))  # who only asks may leave them out
        wishes.check_times(spec, now())
        with self.store.read() as session:
            seen = self._look(session)
            claim = self.draft(session, spec, project, insider)
            w = holding.wish(session, claim, seen, self._parts)
        choice = choosing.choose(seen, w)
        full = len(choice.chosen) < spec.count
        told = refusing.refusal(seen, w, choice, project, insider)
        visible = [c for c in seen.candidates if refusing.is_visible(c, project, insider)]
        return Explained(
            chosen=[] if full else [c.name for c in choice.chosen],
            rules={
                c.name: refusing.whys(choice.rejected.get(c.uuid, ()), insider) for c in visible
            },
            nearest=told.nearest,
            free_at=told.free_at if full else seen.at,
            sentence=str(told) if full else f"claim {spec.name} can be had now",
        )

    def expected(self) -> dict[UUID, datetime | None]:
        """When each claim in the queue will probably begin; None: nobody knows."""
        with self.store.read() as session:
            seen = self._look(session)
            queue = [
                (c.id, holding.plain_wish(session, c, seen, self._parts))
                for c in holding.waiting(session)
            ]
        return refusing.expected(seen, queue)


# --- who may ------------------------------------------------------------------------------------


def admit(session: Session, claim: Claim, at: datetime, endless: bool = False) -> None:
    """Its project's rules: is it there, how urgent, how long, how many. Before it is added.

    endless: it is a cluster's.
    """
    project = projects.may_claim(session, claim.project)
    if claim.priority > project.max_priority:
        raise Conflict(
            f"project {project.name} may ask for priority {project.max_priority} at most",
            f"Ask for that, or an operator moves it: `seed claim prioritize {claim.name}`.",
        )
    begin = max(claim.starts_at or at, at)
    length = claim.ends_at - begin if claim.ends_at else None
    if claim.lease_seconds:
        length = timedelta(seconds=claim.lease_seconds)
    may_have_no_end(project) if endless else may_last(project, length)
    quotas.check(session, claim.project, claim.resource_class, claim.count)


def _living(session: Session, project: str, name: str) -> Claim | None:
    return session.exec(
        select(Claim).where(
            Claim.project == project, Claim.name == name, col(Claim.ended_at).is_(None)
        )
    ).first()


def _same_wish(claim: Claim, spec: ClaimSpec) -> Claim:
    said = (f for f in ClaimSpec.model_fields if f not in CHANGEABLE)
    differs = [f for f in said if getattr(claim, f) != getattr(spec, f)]
    if differs:
        raise Conflict(
            f"a claim named {claim.name} lives already and differs in {', '.join(differs)}",
            f"Choose another name, or release it first: `seed claim release {claim.name}`.",
        )
    return claim
