"""Which login is tried at a BMC that a sweep found: a list's for this very box, else the one given.

Before any login a BMC is known by its address, and by its MAC where it is on our own wire (ARP).
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID
from sqlmodel import Session, col, select

from provisioning import default_logins, oui
from provisioning.bmc import Access, BmcProtocol, Contact
from provisioning.default_logins import Default
from provisioning.errors import BmcLoginRefused, NotFound
from provisioning.models import Bmc, Credential
from provisioning.room import Observation
from provisioning.secrets import Sealer
from provisioning.states import Login
from provisioning.vault import PREFIX, split

log = structlog.get_logger()

MAKER_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A login, opened, that may be tried at this BMC."""

    contact: Contact
    credential: Credential
    access: Access


def named(session: Session, name: str) -> Credential:
    """A login by its name; `vault:MOUNT/PATH` needs none of ours. NotFound, Invalid."""
    found = session.exec(select(Credential).where(Credential.name == name)).first()
    if found is None and name.startswith(PREFIX):
        split(name)
        found = Credential(name=name, username="", sealed=b"")
        session.add(found)
        session.flush()
    if found is None:
        raise NotFound(
            f"no login is named {name!r}",
            "Give one: `seed discover RANGE --username U --password-stdin`.",
        )
    return found


def listed(session: Session, macs: dict[str, str]) -> dict[str, Credential]:
    """Address -> the login that a list brought for the BMC there. macs: address -> MAC."""
    rows = session.exec(
        select(Observation, Credential).where(Observation.credential_id == Credential.id)
    ).all()
    by_address = {o.bmc_address: c for o, c in rows if o.bmc_address}
    by_mac = {o.bmc_mac: c for o, c in rows if o.bmc_mac}
    seen = {address: by_mac[mac] for address, mac in macs.items() if mac in by_mac}
    return by_address | seen


def choose(
    contact: Contact,
    bmc: Bmc,
    candidates: list[Credential | None],
    opened: Callable[[Credential], Access],
) -> Choice | BmcLoginRefused | None:
    """The first that this BMC did not refuse before; None: there is none at all."""
    if bmc.login is Login.LENT:
        return BmcLoginRefused(
            f"BMC {bmc.address} is another owner's until its claim is released; no login was tried",
            "See which are: `seed metal3 list`.",
        )
    choices = [Choice(contact, c, opened(c)) for c in candidates if c]
    fresh = [c for c in choices if c.access.mark not in bmc.refused]
    if fresh:
        return fresh[0]
    if not choices:
        return None
    return BmcLoginRefused(
        f"BMC {bmc.address} refused this login before; it was not tried again",
        f"Give another: `seed discover {bmc.address} --username U --password-stdin`; "
        f"or, if it knows this one by now, first `seed bmc forget {bmc.address}`.",
    )


# --- vendors' defaults ----------------------------------------------------------------------------


def maker(contact: Contact, protocol: BmcProtocol, mac: str) -> str:
    """Who made it, by what it shows everybody: Redfish root, certificate, the MAC's OUI."""
    try:
        told = protocol.maker(contact, MAKER_TIMEOUT)
    except Exception:  # whatever a liar answers: its certificate or MAC may still tell
        log.info("bmc.maker-untold", address=contact.address, exc_info=True)
        told = ""
    names = [told, *_certified(contact.certificate), oui.maker(mac)]
    return next((name for name in names if default_logins.of(name)), "")


def _certified(pem: str) -> list[str]:
    """Organizations and names in the certificate that it came with."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        parts = [*certificate.subject, *certificate.issuer]
    except ValueError:
        return []
    wanted = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    return [str(p.value) for p in parts if p.oid in wanted]


def kept_default(session: Session, sealer: Sealer, default: Default) -> Credential:
    """The row of a vendor's default, made where there is none."""
    found = session.exec(select(Credential).where(col(Credential.name) == default.name)).first()
    if found is None:
        found = Credential(name=default.name, username=default.username, sealed=b"")
        found.sealed = sealer.seal(default.password, f"credential:{found.id}")
        session.add(found)
        session.flush()
    return found
