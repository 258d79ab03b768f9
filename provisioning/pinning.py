"""The certificate that an accepted BMC is known by, and what becomes of another one.

Nothing is sent to a BMC that shows another certificate, until a person says that it is right.
"""

from sqlmodel import Session

from provisioning.authority import fingerprint
from provisioning.bmc import Contact
from provisioning.errors import Conflict, Invalid
from provisioning.models import Bmc
from provisioning.room import Rotation
from provisioning.states import MOVING, BmcGoal
from provisioning.store import record

HEX_DIGITS = 64  # of a SHA-256


def stranger(
    session: Session, bmc: Bmc, shown: Contact, change: Rotation | None = None
) -> Conflict:
    """It shows another one than it was accepted with. It is kept, so that it can be trusted.

    change: a change of login under way, which may be about to install one of ours.
    """
    problem = f"the certificate of BMC {bmc.address} changed since it was accepted"
    if change and change.certificate:
        problem = f"BMC {bmc.address} shows a certificate that is neither its old one nor ours"
    if bmc.offered != shown.certificate:
        bmc.offered = shown.certificate
        session.add(bmc)
        record(session, "bmc.certificate-changed", bmc.address, problem, shown=shown.fingerprint)
    return Conflict(
        f"{problem}; nothing was sent there",
        f"Reset or renewed on purpose? `seed bmc trust {bmc.address} {shown.fingerprint}`. "
        f"Another BMC? `seed bmc forget {bmc.address}`, then discover it. "
        "Else unplug it and ask who did this.",
    )


def trust(session: Session, bmc: Bmc, told: str, who: str) -> None:
    """This other certificate is right: its logins go there again, Ironic's too.

    told: its SHA-256, hex, with colons or without: what was looked at is what is trusted.
    """
    wanted = told.replace(":", "").lower()
    if len(wanted) != HEX_DIGITS or set(wanted) - set("0123456789abcdef"):
        raise Invalid(
            f"{told!r} is no SHA-256 of a certificate: 64 hex digits",
            f"`seed discover {bmc.address}` tells what it shows now.",
        )
    if bmc.fingerprint == wanted:
        return
    if bmc.goal is BmcGoal.OBSERVED:
        raise Conflict(
            f"BMC {bmc.address} is not accepted: Seed takes what it shows",
            f"`seed discover {bmc.address}` looks at it.",
        )
    if not bmc.offered or fingerprint(bmc.offered) != wanted:
        raise Conflict(
            f"BMC {bmc.address} was not seen with that certificate",
            f"`seed discover {bmc.address}` tells what it shows now.",
        )
    bmc.fingerprint, bmc.certificate, bmc.offered = wanted, bmc.offered, ""
    bmc.told_ironic = None  # what it verifies the certificate by is another one
    change = session.get(Rotation, bmc.id)
    if change is not None and change.step in MOVING:
        change.problem = change.remedy = ""
        session.add(change)
    session.add(bmc)
    record(session, "bmc.trusted", bmc.address, "its new certificate", who=who, shown=wanted)
