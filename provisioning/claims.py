"""Claims: ask for nodes, take them back. The reconciler's side is in claim_steps.py."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from sqlalchemy import or_, update
from sqlmodel import Session, col, select

from provisioning import classify, plans
from provisioning.errors import Conflict, Invalid, NoCapacity, NotFound
from provisioning.image import Image
from provisioning.ironic import Ironic, Node
from provisioning.models import Bmc, Claim, ClaimSpec, Hold, now
from provisioning.plans import PlannedNode, PlanOut
from provisioning.rotation import moving
from provisioning.states import BmcGoal, ClaimState, Wanted
from provisioning.store import Store, record

RELEASE = "release"


@dataclass(frozen=True)
class Desk:
    """Where claims are asked for and taken back: the API's half."""

    store: Store
    ironic: Ironic
    image: Callable[[str], Image]
    undo: timedelta

    def request(self, spec: ClaimSpec, project: str, who: str) -> tuple[Claim, bool]:
        """Claim and holds in one transaction, or nothing; (claim, was it new).

        The same name with the same wish is the same claim. Raises Invalid, NotFound (image),
        Conflict (name), NoCapacity with the rule that rejected each node.
        """
        _check_keys(spec.ssh_keys)
        self.image(spec.image)
        nodes = self.ironic.nodes()
        with self.store.write() as session:
            same = _living(session, project, spec.name)
            if same is not None:
                return _same_wish(same, spec), False
            claim = Claim(**spec.model_dump(), project=project, asked_by=who)
            session.add(claim)
            session.flush()
            take(session, claim, nodes)
            record(
                session, "claim.requested", claim.id, f"{spec.count} x {spec.resource_class}",
                who=who, project=project,
            )  # fmt: skip
            return claim, True

    def find(self, session: Session, project: str | None, name: str) -> Claim:
        """A claim by name (the living one first) or UUID. `project` None sees all projects."""
        query = select(Claim).where(or_(col(Claim.name) == name, col(Claim.id) == _uuid(name)))
        if project is not None:
            query = query.where(Claim.project == project)
        rows = session.exec(query.order_by(col(Claim.created_at).desc())).all()
        living = [c for c in rows if c.ended_at is None] or list(rows)
        if not living:
            raise NotFound(f"there is no claim {name!r}", "See yours: `seed claim list`.")
        return living[0]

    def plan_release(self, project: str | None, name: str) -> PlanOut:
        with self.store.read() as session:
            claim = self.find(session, project, name)
            nodes = self._at_stake(session, claim)
        with self.store.write() as session:
            return plans.make(session, RELEASE, _sentence(claim, nodes, self.undo), nodes)

    def release(self, project: str | None, name: str, plan: str, who: str, at_once: bool) -> Claim:
        """Give the nodes back: off now, cleaned when the undo window is over."""
        with self.store.write() as session:
            claim = self.find(session, project, name)
            if claim.wanted is Wanted.RELEASED:
                if at_once and claim.state is ClaimState.RELEASING:
                    claim.undo_until = now()
                return claim
            plans.use(session, RELEASE, self._at_stake(session, claim), plan)
            claim.wanted = Wanted.RELEASED
            claim.undo_until = now() if at_once else now() + self.undo
            session.add(claim)
            record(
                session, "claim.release-asked", claim.id, claim.name, who=who,
                project=claim.project, plan=plan,
            )  # fmt: skip
            return claim

    def take_back(self, project: str | None, name: str, who: str) -> Claim:
        """Undo a release while the disks are untouched."""
        with self.store.write() as session:
            claim = self.find(session, project, name)
            if claim.wanted is Wanted.ACTIVE:
                return claim
            too_late = claim.undo_until is None or claim.undo_until <= now()
            if too_late or claim.state in (ClaimState.CLEANING, ClaimState.RELEASED):
                raise Conflict(
                    f"the undo window of claim {claim.name} is over",
                    "Its disks are being cleaned; claim new nodes: `seed claim create`.",
                )
            claim.wanted, claim.undo_until = Wanted.ACTIVE, None
            session.add(claim)
            record(session, "claim.taken-back", claim.id, claim.name, who=who)
            return claim

    def _at_stake(self, session: Session, claim: Claim) -> list[PlannedNode]:
        holds = session.exec(
            select(Hold).where(Hold.claim_id == claim.id).order_by(col(Hold.position))
        ).all()
        return [self.planned(session, h, claim.name) for h in holds]

    def planned(self, session: Session, hold: Hold, holder: str) -> PlannedNode:
        bmc = session.exec(select(Bmc).where(Bmc.node_uuid == hold.node_uuid)).one()
        return PlannedNode(
            uuid=str(hold.node_uuid),
            name=bmc.node_name or "",
            serial=bmc.serial,
            generation=hold.generation,
            disks=plans.disks_of(self.ironic.inventory(hold.node_uuid)),
            holder=holder,
        )


def take(session: Session, claim: Claim, nodes: list[Node]) -> None:
    """Hold `claim.count` fitting nodes, or raise NoCapacity and hold none."""
    reasons: dict[str, str] = {}
    taken = 0
    for node in sorted(nodes, key=lambda n: n.name):
        if taken == claim.count:
            return
        why_not = rejects(session, claim, node)
        if not why_not and _hold(session, claim, UUID(node.uuid), taken):
            taken += 1
        else:
            reasons[node.name] = why_not or "another claim was faster"
    if taken == claim.count:
        return
    raise NoCapacity(
        f"claim {claim.name} wants {claim.count} of class {claim.resource_class}, "
        f"free are {taken}{_others(claim, nodes)}",
        "Ask for fewer, release a claim, or see why: `seed node list`.",
        reasons,
    )


def _others(claim: Claim, nodes: list[Node]) -> str:
    """Most wrong classes are typing errors: say which there are."""
    classes = sorted({n.resource_class for n in nodes if n.resource_class})
    if claim.resource_class in classes:
        return ""
    return f"; the classes are: {', '.join(classes)}" if classes else "; there are no nodes at all"


def rejects(session: Session, claim: Claim, node: Node) -> str:
    """The rule that keeps this node from this claim; empty when it fits."""
    hold = session.get(Hold, UUID(node.uuid))
    bmc = session.exec(select(Bmc).where(Bmc.node_uuid == UUID(node.uuid))).first()
    rules = [
        (hold is None or bmc is None, "Seed did not enroll it"),
        (bmc is not None and bmc.goal is not BmcGoal.AVAILABLE, "it was not provided"),
        (node.resource_class != claim.resource_class, f"its class is {node.resource_class}"),
        (_changing(bmc, node), f"its class becomes {bmc.resource_class if bmc else ''}"),
        (hold is not None and hold.claim_id is not None, "it is held by another claim"),
        (node.provision_state != "available", f"it is {node.provision_state}"),
        (bmc is not None and bool(moving(session, [bmc.id])), "its BMC's login is being changed"),
        (node.maintenance, "it is in maintenance"),
        (bool(bmc and bmc.problem), f"it is stuck: {bmc.problem if bmc else ''}"),
    ]
    broken = next((why for broken, why in rules if broken), "")
    if broken or bmc is None:
        return broken
    misfit = classify.present_misfit(session, bmc)
    return f"it is not as its class says: {'; '.join(misfit)}" if misfit else ""


def _changing(bmc: Bmc | None, node: Node) -> bool:
    """Rows say another class already; Ironic will hear of it."""
    return bool(bmc and bmc.hardware_class and bmc.resource_class != node.resource_class)


def _hold(session: Session, claim: Claim, node_uuid: UUID, position: int) -> bool:
    """Compare-and-set: the row is ours only if nobody held it at this moment."""
    won = session.execute(
        update(Hold)
        .where(col(Hold.node_uuid) == node_uuid, col(Hold.claim_id).is_(None))
        .values(claim_id=claim.id, position=position, generation=Hold.generation + 1)
    )
    return bool(won.rowcount == 1)  # type: ignore[attr-defined]


def let_go(session: Session, hold: Hold) -> None:
    """The node is free again; whoever acts for the old generation is now a stranger."""
    hold.claim_id = None
    hold.generation += 1
    session.add(hold)


def _living(session: Session, project: str, name: str) -> Claim | None:
    return session.exec(
        select(Claim).where(
            Claim.project == project, Claim.name == name, col(Claim.ended_at).is_(None)
        )
    ).first()


def _same_wish(claim: Claim, spec: ClaimSpec) -> Claim:
    differs = [f for f in ClaimSpec.model_fields if getattr(claim, f) != getattr(spec, f)]
    if differs:
        raise Conflict(
            f"a claim named {claim.name} lives already and differs in {', '.join(differs)}",
            f"Choose another name, or release it first: `seed claim release {claim.name}`.",
        )
    return claim


def _check_keys(keys: list[str]) -> None:
    if not keys:
        raise Invalid(
            "no SSH key was given, nobody could log in",
            "Add one: --ssh-key ~/.ssh/id_ed25519.pub.",
        )
    for number, key in enumerate(keys, 1):
        if "PRIVATE KEY" in key:
            raise Invalid(
                f"SSH key {number} is a private key", "Give the .pub file and change that key pair."
            )
        try:
            if "\n" in key.strip():
                raise ValueError("more than one line")
            load_ssh_public_key(key.strip().encode())
        except (ValueError, UnsupportedAlgorithm) as err:
            raise Invalid(
                f"SSH key {number} is not an OpenSSH public key",
                "Give one line like `ssh-ed25519 AAAA... name`, as in a .pub file.",
            ) from err


def _sentence(claim: Claim, nodes: list[PlannedNode], undo: timedelta) -> str:
    minutes = int(undo.total_seconds() // 60)
    return (
        f"Release claim {claim.name}: {len(nodes)} node(s) are powered off now and their disks are "
        f"erased after {minutes} minutes (at once with --now)."
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
