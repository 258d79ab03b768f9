"""Logins of BMCs: which are in use, and how Ironic is told one."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import or_
from sqlmodel import Session, col, select

from provisioning.bmc import Access, Identity
from provisioning.errors import BmcRefused, NotFound
from provisioning.models import Bmc, Credential, Discovery
from provisioning.parts import Parts, contact_of
from provisioning.room import Observation, Rotation
from provisioning.store import record
from provisioning.strict_tls import stands_alone

OUR_NAMES: Final = ("discover-", "bmc-")
"""How Seed names logins itself. What a person named may be meant for the next rack: it stays."""


class Trust(StrEnum):
    """By what Ironic knows that it speaks to this BMC. Our own calls pin the fingerprint."""

    NONE = ""  # IPMI
    OWN = "own"  # the BMC's own certificate
    SEED_CA = "seed-ca"
    NOTHING = "nothing"  # no client can verify what this BMC shows


def findings(bmc: Bmc) -> list[str]:
    """The weaknesses of this BMC, for people."""
    return weaknesses(bmc.findings, bmc.trust)


def weaknesses(found: list[str], trust: str) -> list[str]:
    """The same of its row's columns."""
    unpinned = ["Ironic's calls are not pinned"] if trust == Trust.NOTHING else []
    return [*found, *unpinned]


def trust_of(parts: Parts, bmc: Bmc) -> Trust:
    if not bmc.certificate:
        return Trust.NONE
    if parts.authority.signed(bmc.certificate, bmc.address):
        return Trust.SEED_CA
    return Trust.OWN if stands_alone(bmc.certificate, bmc.address) else Trust.NOTHING


def ironic_driver(parts: Parts, bmc: Bmc, access: Access) -> tuple[str, dict[str, Any]]:
    """(hardware type, driver_info) of this BMC with this login; writes the file that it names."""
    identity = Identity(serial=bmc.serial, system_uuid=bmc.system_uuid, system_id=bmc.system_id)
    match trust_of(parts, bmc):
        case Trust.OWN:
            text = bmc.certificate
        case Trust.SEED_CA:
            text = parts.authority.pem
        case _:
            text = ""
    ca_file = parts.ca_dir / f"{bmc.id}.pem"
    if text:
        fresh = ca_file.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(ca_file)
    protocol = parts.protocols[bmc.protocol]
    told = str(ca_file) if text else ""
    info = protocol.driver_info(contact_of(bmc), identity, access, told)
    if "ipmi_cipher_suite" in info:
        info["ipmi_cipher_suite"] = cipher_suite(bmc)
    return protocol.driver, info


def cipher_suite(bmc: Bmc) -> str:
    """The strongest that it offers of 17 (SHA-256) and 3 (SHA-1). IPMI 2.0, table 22-20.

    All others leave out the proof of who it is (0), the integrity or the secrecy of what is said.
    Not probed yet, or no answer: 3, which every one has.
    """
    offered = bmc.abilities.get("cipher_suites") or [3]
    best = next((suite for suite in (17, 3) if suite in offered), None)
    if best is None:
        raise BmcRefused(
            f"BMC {bmc.address} offers IPMI cipher suites {', '.join(map(str, offered))} only; "
            "none of them is safe to send commands over",
            "Switch on suite 17 or 3 (`ipmitool lan set 1 cipher_privs`), or its Redfish.",
        )
    return str(best)


def forget_unused(session: Session, credential_id: UUID | None) -> bool:
    """Remove a login that Seed named and nobody uses any more. Sweeps of the past lose it, too."""
    found = session.get(Credential, credential_id) if credential_id else None
    if found is None or not found.name.startswith(OUR_NAMES):
        return False
    sweeps = session.exec(select(Discovery).where(Discovery.credential_id == found.id)).all()
    users = [
        session.exec(select(Bmc).where(Bmc.credential_id == found.id)).first(),
        session.exec(select(Observation).where(Observation.credential_id == found.id)).first(),
        session.exec(select(Rotation).where(Rotation.candidate_id == found.id)).first(),
        next((s for s in sweeps if s.ended_at is None), None),
    ]
    if any(users):
        return False
    for sweep in sweeps:
        sweep.credential_id = None
        session.add(sweep)
    session.flush()
    session.delete(found)
    return True


@dataclass(frozen=True, slots=True)
class Kept:
    """A login that Seed has for a BMC. what: "the login it has", or which other one."""

    what: str
    credential: Credential


def kept_for(session: Session, address: str, who: str) -> list[Kept]:
    """Every login of this BMC, forgotten ones among them; asking is recorded. NotFound: none."""
    bmc = session.exec(select(Bmc).where(Bmc.address == address)).first()
    change = session.get(Rotation, bmc.id) if bmc else None
    whats = {
        bmc.credential_id if bmc else None: "the login it has",
        change.candidate_id if change else None: "a new one; which of the two it has is not known",
    }
    ours = col(Credential.name).startswith(f"{OUR_NAMES[1]}{address.replace(':', '-')}-")
    query = select(Credential).where(or_(ours, col(Credential.id).in_([w for w in whats if w])))
    found = session.exec(query.order_by(col(Credential.created_at).desc())).all()
    if not found:
        raise NotFound(
            f"no login is kept for BMC {address}", "See which there are: `seed bmc list`."
        )
    record(session, "bmc.login-revealed", address, f"{len(found)} logins", who=who)
    return [Kept(whats.get(c.id, "of a BMC that was forgotten"), c) for c in found]
