"""The reconciler's side of a claim: one state, one action, safe to repeat after kill -9.

requested -> allocated -> deploying -> proving -> active -> releasing -> cleaning -> released
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlmodel import col, select

from provisioning import (
    holding,
    keeping,
    layouts,
    leasing,
    memberships,
    orders,
    rotation,
    secret_files,
    standing,
)
from provisioning.claim_release import Releasing
from provisioning.claim_seats import Outcome, Seats, differs, some
from provisioning.deployment import Deployment, Fitter
from provisioning.enrollment import (
    switched_off,
    waiting_for,
)
from provisioning.errors import Conflict, Invalid
from provisioning.image import Image
from provisioning.ironic import Node, locked
from provisioning.lending import Lender
from provisioning.models import Bmc, Claim, Hold, Order, now
from provisioning.networks import networks
from provisioning.outcome import Done, Move, Stuck, Wait
from provisioning.parts import FEW
from provisioning.pool import REFUSED
from provisioning.states import WORKING, ClaimState, OrderKind, Wanted
from provisioning.store import record
from provisioning.targets.plain import PLUGIN as PLAIN

PROOF_SECONDS = 3600  # a first boot with firmware updates and a slow disk takes half of this


@dataclass(frozen=True)
class Claiming(Seats):
    """Takes one claim one step on."""

    def step(self, claim: Claim) -> Outcome:
        back = Releasing(self.parts)
        changing = self._changing(claim)
        if changing:
            return Wait(f"the login of BMC {', '.join(changing)} is being changed", 1.0)
        over = leasing.is_over(claim) or leasing.ran_out(claim)
        giving_back = claim.wanted is Wanted.RELEASED or over
        elsewhere = Lender(self.parts).step(claim, giving_back)
        if elsewhere is not None:
            return elsewhere
        if giving_back and claim.state not in (ClaimState.RELEASING, ClaimState.CLEANING):
            return back.begin(claim)
        steps: dict[ClaimState, Callable[[Claim], Outcome]] = {
            ClaimState.QUEUED: lambda _: Wait("waits in the queue", 5.0),
            ClaimState.RESERVED: self._begin_reserved,
            ClaimState.REQUESTED: self._allocate,
            ClaimState.ALLOCATED: self._deploy,
            ClaimState.DEPLOYING: self._watch,
            ClaimState.PROVING: self._prove,
            ClaimState.ACTIVE: lambda active: leasing.warn(self.parts.store, active),
            ClaimState.RELEASING: back.wait_for_undo,
            ClaimState.CLEANING: back.clean,
        }
        step = steps.get(claim.state)
        return step(claim) if step else Done()

    def _changing(self, claim: Claim) -> list[str]:
        held = select(Bmc.id).join(Hold, col(Hold.node_uuid) == col(Bmc.node_uuid))
        with self.parts.store.read() as session:
            ids = session.exec(held.where(Hold.claim_id == claim.id)).all()
            return rotation.moving(session, list(ids))

    def _begin_reserved(self, claim: Claim) -> Outcome:
        begin = claim.starts_at or now()
        if begin > now():
            left = (begin - now()).total_seconds()
            return Wait(f"begins {begin:%Y-%m-%d %H:%M} UTC", min(left + 0.1, 30.0))
        late = holding.begin_reserved(self.parts.store, claim, self.parts.turnaround)
        return Wait(f"its time has come; {late}", 5.0) if late else Move(ClaimState.REQUESTED)

    def _allocate(self, claim: Claim) -> Outcome:
        """Ironic's own lock on each held node. One refusal drops all, and we choose anew."""
        seats = self._seats(claim)
        if not seats:  # the crash came right behind the end of _choose_anew
            return self._no_gang(claim, "Ironic refused its nodes, and no others were free")
        many = len(seats) > FEW
        known = self.parts.ironic.allocated(claim.resource_class) if many else {}

        def allocate(seat: tuple[Hold, Bmc]) -> tuple[Hold, str, str]:
            name, uuid = claim.allocation_name(seat[0].position), seat[0].node_uuid
            if name in known:
                return seat[0], *locked(uuid, *known[name])
            return seat[0], *self.parts.ironic.allocate(name, uuid, claim.resource_class)

        answers = self.parts.each(seats, allocate)
        for hold, state, error in answers:
            if state == "error":
                return self._choose_anew(claim, hold, error)
        waiting = any(state != "active" for _, state, _ in answers)
        return Wait("Ironic locks the nodes", 0.5) if waiting else Move(ClaimState.ALLOCATED)

    def _choose_anew(self, claim: Claim, refused: Hold, error: str) -> Outcome:
        seats = self._seats(claim)
        self._drop(claim, seats)
        with self.parts.store.write() as session:
            for hold, _bmc in seats:
                holding.let_go(session, session.get_one(Hold, hold.node_uuid))
            record(
                session, REFUSED, claim.id, error, project=claim.project,
                node=str(refused.node_uuid),
            )  # fmt: skip
            session.flush()
            problem = holding.take_anew(session, claim, self.parts.turnaround)
            queued = session.get_one(Claim, claim.id).state is ClaimState.QUEUED
        if problem and not queued:
            return self._no_gang(claim, problem)
        return Wait("Ironic refused a node; chose anew", 0.5)

    def _no_gang(self, claim: Claim, problem: str) -> Stuck:
        return Stuck(problem, f"`seed claim release {claim.name}`, then claim again.")

    def _deploy(self, claim: Claim) -> Outcome:
        with self.parts.store.read() as session:
            why = memberships.waits(session, claim)
        if why:
            return Wait(why, 0.5)
        seats = self._seats(claim)
        nodes = self.parts.seen_all([hold.node_uuid for hold, _bmc in seats])
        pairs = zip(seats, nodes, strict=True)
        # Else begun before a crash. Ironic itself refuses to deploy what is not available.
        self._deploy_these(claim, [seat for seat, n in pairs if n.provision_state == "available"])
        return Move(ClaimState.DEPLOYING)

    def _deploy_these(self, claim: Claim, seats: list[tuple[Hold, Bmc]]) -> None:
        """Look at each server, write all orders at once, then begin them all."""
        if not seats:
            return
        macs = self.parts.each(seats, self._verified)
        image = self._image(claim)
        ready = self._open_orders(claim, image, list(zip(seats, macs, strict=True)))
        self.parts.serve_wire()
        self.parts.each(ready, lambda one: self._deploy_one(claim, image, one))

    def _image(self, claim: Claim) -> Image:
        """The version that it was promised. Conflict if that was withdrawn meanwhile."""
        with self.parts.store.read() as session:
            why = standing.usable(session, claim)
        if why:
            raise Conflict(why, f"`seed claim release {claim.name}`, then claim again.")
        return self.parts.image(claim.image_ref)

    def _verified(self, seat: tuple[Hold, Bmc]) -> list[str]:
        """Its boot MACs, if it is the server that was accepted."""
        hold, bmc = seat
        macs = sorted(m for m, pxe in self.parts.ironic.ports(hold.node_uuid).items() if pxe)
        self.parts.verify_identity(bmc, macs)
        return macs

    def _open_orders(
        self, claim: Claim, image: Image, seats: list[tuple[tuple[Hold, Bmc], list[str]]]
    ) -> list[Deployment]:
        """All in one transaction: what each node is to be told. Who lost his node is left out."""
        ready = []
        ca = self.parts.gateway_ca.read_text()
        with self.parts.store.read() as session:  # what takes long, before anybody waits for us
            nics = layouts.nics_of_all(session, [bmc for (_hold, bmc), _macs in seats])
            secret = secret_files.specs(session, self.parts.unseal, claim)
        with self.parts.store.write() as session:
            nets = networks(session)
            member = memberships.make(
                session, claim, self.parts.unseal, self.parts.token, self.parts.gateway_url, ca,
                self.parts.boot_url,
            )  # fmt: skip
            fitter = Fitter(self.parts, session, claim, image, nets, ca, nics, secret, member)
            for (hold, bmc), macs in seats:
                if not self._ours(session, hold):
                    continue
                order = orders.open_order(session, bmc, OrderKind.DEPLOY, hold.generation, macs)
                ready.append(fitter.fit(hold, bmc, order))
        return ready

    def _deploy_one(self, claim: Claim, image: Image, one: Deployment) -> None:
        disk = image.files["disk"]
        folder = f"{self.parts.boot_url}/images/{image.name}/{image.version}"
        skipped = self.parts.seen(one.node_uuid).properties.get("skip_block_devices")
        if one.keeps or one.steps or one.kept or skipped:
            node = self.parts.ironic.node(one.node_uuid)
            keeping.protect(self.parts, one.bmc, node, one.keeps)
        self.parts.ironic.patch_node(
            one.node_uuid,
            {
                "/instance_info": {
                    "image_source": f"{folder}/{disk.name}",
                    "image_os_hash_algo": "sha256",
                    "image_os_hash_value": disk.sha256,
                    "image_disk_format": image.format,
                    "image_type": "whole-disk",
                    **one.root,
                },
                # Once the image is written and flushed there is nothing to shut down: all of the
                # ramdisk is in memory.
                "/driver_info/deploy_forces_oob_reboot": True,
            },
        )
        drive = PLAIN.config_drive(claim, one.seat)
        try:
            self.parts.ironic.provision(one.node_uuid, "active", drive, one.steps)
        except (Conflict, Invalid):
            # Asked by a life before this one, whose call was still on its way when we looked.
            state = self.parts.ironic.node(one.node_uuid).provision_state
            if state not in WORKING and state != "active":
                raise

    def _watch(self, claim: Claim) -> Outcome:
        """Until Ironic says active of all."""
        seats = self._seats(claim)
        nodes = self.parts.seen_all([hold.node_uuid for hold, _bmc in seats])
        orders_of = self._orders_of(seats)
        details, again, done = [], [], []
        pairs = list(zip(seats, nodes, strict=True))
        alarmed = [
            (seat, node, order)
            for seat, node in pairs
            if (order := orders_of.get(seat[0].node_uuid)) and order.alarm
            and node.provision_state in WORKING
        ]  # fmt: skip
        if alarmed:
            _seat, node, order = alarmed[0]
            off = self.parts.each(alarmed, lambda one: self._off(*one[0]))
            if not all(off):
                return Wait(f"stopping: {order.alarm}", 1.0)
            return self._failed(claim, node, order)
        for (hold, bmc), node in pairs:
            order = orders_of.get(hold.node_uuid)
            if node.provision_state == "active":
                done.append(hold)
                continue
            if node.provision_state == "available":  # a crash came between two deploys
                again.append((hold, bmc))
            elif node.provision_state not in WORKING:
                return self._failed(claim, node, order)
            details.append(f"{bmc.node_name} {waiting_for(node, order)}")
        self._ironic_done(*done)
        self._deploy_these(claim, again)
        return Wait(some(details), 1.0) if details else Move(ClaimState.PROVING)

    def _off(self, hold: Hold, bmc: Bmc) -> bool:
        """Off as soon as Ironic lets go of it. What is on it is erased under an order of its own,
        when the claim is released."""
        node = self.parts.ironic.node(hold.node_uuid)
        if node.provision_state in WORKING and node.provision_state != "wait call-back":
            return False
        if node.power_state == "power on":
            self.parts.verify_identity(bmc, [])  # a stranger is not even switched off
        try:
            return switched_off(self.parts, node)
        except Conflict:  # locked since we looked
            return False

    def _failed(self, claim: Claim, node: Node, order: Order | None) -> Stuck:
        why = (order.alarm if order else "") or node.last_error or node.provision_state
        return Stuck(
            f"{node.name}: {why}",
            f"Look at its console, then `seed claim release {claim.name}` and claim again.",
        )

    def _prove(self, claim: Claim) -> Outcome:
        missing = []
        seats = self._seats(claim)
        with self.parts.store.read() as session:  # closed already, after a crash below
            orders_of = [orders.of_deploy(session, hold) for hold, _bmc in seats]
        for (hold, bmc), order in zip(seats, orders_of, strict=True):
            stuck = self._unproved(claim, hold, bmc, order)
            if stuck:
                return stuck
            if order is None or order.proof is None:
                missing.append(bmc.node_name or "")
        if missing:
            return Wait(f"waiting for the proof of {some(missing, ', ')}", 1.0)
        with self.parts.store.write() as session:
            for hold, _bmc in seats:
                order = orders.open_for(session, hold.node_uuid)
                if order and order.kind is OrderKind.DEPLOY:
                    orders.close(session, order, "proved")
        self.parts.serve_wire()
        return Move(ClaimState.ACTIVE)

    def _unproved(self, claim: Claim, hold: Hold, bmc: Bmc, order: Order | None) -> Stuck | None:
        """Why this node will never prove itself; None: it did, or may still do so."""
        if order is None:
            return None
        if order.alarm:
            return Stuck(
                f"{bmc.node_name}: {order.alarm}",
                f"Find out who that was; `seed claim release {claim.name}` gives it back.",
            )
        if order.proof is not None:
            wrong = differs(claim, hold, bmc, order)
            return (
                Stuck(wrong, f"`seed claim release {claim.name}` gives it back.") if wrong else None
            )
        if order.ironic_done_at and _older(order, PROOF_SECONDS):
            return Stuck(
                f"{bmc.node_name} is active but sent no proof for an hour",
                "Look at its console: did it boot from disk, did cloud-init run?",
            )
        return None


def _older(order: Order, seconds: float) -> bool:
    done = order.ironic_done_at
    return done is not None and (now() - done).total_seconds() > seconds
