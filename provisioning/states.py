"""States of a claim, and groups of Ironic's provision states. Node states are Ironic's alone."""

from enum import StrEnum
from typing import Final


class Wanted(StrEnum):
    """What the API asks for. Written by the API only."""

    ACTIVE = "active"
    RELEASED = "released"


class IfFull(StrEnum):
    """What to do with a claim that cannot be had now."""

    REFUSE = "refuse"
    QUEUE = "queue"


class ClaimState(StrEnum):
    """How far the reconciler got. Written by the reconciler only."""

    QUEUED = "queued"  # waits for nodes and holds none
    RESERVED = "reserved"  # nodes are booked for it; its time has not come
    REQUESTED = "requested"  # holds are ours, allocations are being made
    ALLOCATED = "allocated"  # Ironic's locks are ours too
    DEPLOYING = "deploying"  # images are being written
    PROVING = "proving"  # Ironic says active; waiting for each server's own word
    ACTIVE = "active"
    FAILED = "failed"  # keeps its nodes until released, so that people can look at them
    RELEASING = "releasing"  # undo window: powered off, disks untouched
    CLEANING = "cleaning"
    RELEASED = "released"


S = ClaimState

TRANSITIONS: Final[frozenset[tuple[ClaimState, ClaimState]]] = frozenset(
    {
        (S.QUEUED, S.REQUESTED),
        (S.QUEUED, S.RESERVED),
        (S.RESERVED, S.REQUESTED),
        (S.QUEUED, S.RELEASED),
        (S.RESERVED, S.RELEASED),
        (S.REQUESTED, S.ALLOCATED),
        (S.REQUESTED, S.QUEUED),  # Ironic refused a node, and no other gang is free
        (S.ALLOCATED, S.DEPLOYING),
        (S.DEPLOYING, S.PROVING),
        (S.PROVING, S.ACTIVE),
        (S.RELEASING, S.CLEANING),
        # Taken back inside the undo window: the disks were not touched.
        (S.RELEASING, S.ACTIVE),
        (S.RELEASING, S.DEPLOYING),  # it was not active yet
        (S.CLEANING, S.RELEASED),
        # Nothing was deployed yet: there is nothing to clean.
        (S.REQUESTED, S.RELEASED),
        (S.FAILED, S.RELEASING),
        *((s, S.FAILED) for s in (S.REQUESTED, S.ALLOCATED, S.DEPLOYING, S.PROVING)),
        *((s, S.RELEASING) for s in (S.ALLOCATED, S.DEPLOYING, S.PROVING, S.ACTIVE)),
    }
)


class Noun(StrEnum):
    """What people call what is made of claimed nodes."""

    CLUSTER = "cluster"
    OVERCLOUD = "overcloud"


class StageState(StrEnum):
    """How far a stage of an overcloud's installer is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # until a person says `seed overcloud resume`


class ClusterState(StrEnum):
    """How far a cluster is."""

    CLAIMING = "claiming"  # its claims are there; what they need is being made
    DEPLOYING = "deploying"  # its nodes get their disks, and prove themselves
    BOOTSTRAPPING = "bootstrapping"  # its members take their steps
    READY = "ready"
    DEGRADED = "degraded"  # a member is not what it should be
    UPGRADING = "upgrading"
    RELEASING = "releasing"
    RELEASED = "released"


class MemberGoal(StrEnum):
    """What becomes of a member."""

    JOINED = "joined"
    LEAVING = "leaving"  # a person wants it gone; cluster_rolling.py says when it is its turn
    GONE = "gone"


class Parting(StrEnum):
    """How far a member that leaves is. Each is written before what it names begins."""

    NO = "no"
    DRAINING = "draining"  # a control plane takes its work from it
    LEAVING = "leaving"  # it takes its own steps out of the cluster
    LEFT = "left"  # it said so: its claim may be released
    LOST = "lost"  # nobody hears of it, or a person gave it up: released without its word
    FORGOTTEN = "forgotten"  # released, and a control plane removed what was left of it


class BmcGoal(StrEnum):
    """How far a BMC's server shall be taken. Written by the API only."""

    OBSERVED = "observed"  # found; nothing but reads
    MANAGED = "managed"  # accepted: in Ironic, inspected; disks untouched
    ADOPTED = "adopted"  # another Ironic's node: in ours as it was, nothing powered or booted
    AVAILABLE = "available"  # cleaned and offered to claims
    FORGOTTEN = (
        "forgotten"  # out of Ironic and out of our rows; its disks and power stay as they are
    )


class Login(StrEnum):
    """What is known of the login kept for a BMC."""

    NONE = "none"
    OK = "ok"
    REFUSED = "refused"  # never tried again: a second wrong login may lock the account
    LENT = "lent"  # another owner has it: Seed says nothing to this BMC


class Borrower(StrEnum):
    """Who has a claim's nodes while they are lent: an Ironic that is not Seed's."""

    METAL3 = "metal3"  # Cluster API's
    IRONIC = "ironic"  # an overcloud's own


class LendingStep(StrEnum):
    """How far the nodes of a claim are on their way to another owner, and back."""

    ASKED = "asked"  # nothing was done yet
    QUIET = "quiet"  # Ironic is kept off them
    LENT = "lent"  # Seed, too, says nothing to their BMCs
    RETURNING = "returning"  # their BMCs get logins that the other owner has not
    ROTATED = "rotated"  # it cannot reach them any more
    OFF = "off"  # they are being switched off


class RotationStep(StrEnum):
    """How far a change of a BMC's login got. Each is written before what it names begins."""

    ASKED = "asked"  # waits until nobody else works on the node
    QUIET = "quiet"  # Ironic is kept off the BMC
    READY = "ready"  # the new login is kept, sealed
    SENT = "sent"  # it is being set: after a crash nobody knows which one the BMC has
    TAKEN = "taken"  # the BMC said yes
    PROVED = "proved"  # it let us in with it
    TOLD = "told"  # Ironic has it
    PROMOTED = "promoted"  # it is the BMC's login; the old one is forgotten
    CERTIFYING = "certifying"  # a certificate of ours is being installed
    CERTIFIED = "certified"
    FAILING = "failing"  # nothing changed: Ironic is let on again
    FAILED = "failed"  # nothing changed: the old login stays
    STUCK = "stuck"  # both were refused: a person must look


MOVING: Final = frozenset(RotationStep) - {
    RotationStep.ASKED, RotationStep.FAILED, RotationStep.STUCK,
}  # fmt: skip
"""Somebody else's login now would be one wrong login more, sooner or later."""


class ImageState(StrEnum):
    """Whether a version of an image may be written to disks."""

    DRAFT = "draft"  # by operators who name the version, to try it
    PUBLISHED = "published"
    DEPRECATED = "deprecated"  # claims that have it keep it; new ones must name the version
    WITHDRAWN = "withdrawn"  # no deploy of it begins; its files go once no claim has it


class IntakeState(StrEnum):
    """How far a disk image on its way in got."""

    UPLOADING = "uploading"
    WAITING = "waiting"
    FETCHING = "fetching"
    CHECKING = "checking"
    DONE = "done"
    REFUSED = "refused"


class AddressKind(StrEnum):
    """Who has an address."""

    BOOT = "boot"  # a NIC that boots from the network, for as long as its node is enrolled
    NODE = "node"  # a node, for as long as a claim holds it
    VIP = "vip"  # a service that moves between nodes
    RESERVED = "reserved"  # somebody whom Seed does not know


class OrderKind(StrEnum):
    """What a server was told to boot Ironic's ramdisk for."""

    INSPECT = "inspect"
    CLEAN = "clean"
    DEPLOY = "deploy"


# Ironic's provision states, ironic/common/states.py of 39.0.0
WORKING: Final = frozenset(
    {
        "verifying", "inspecting", "inspect wait", "cleaning", "clean wait", "deploying",
        "wait call-back", "deleting", "adopting", "rescuing", "rescue wait", "unrescuing",
        "servicing", "service wait", "deploy hold", "clean hold", "service hold",
    }
)  # fmt: skip
ABORTABLE: Final = frozenset({"inspect wait", "clean wait"})
FAILED: Final = frozenset({"inspect failed", "clean failed", "deploy failed", "error"})
