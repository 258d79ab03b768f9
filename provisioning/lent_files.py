"""What root writes of lent nodes for their other owner, whatever the form of the file.

Made on the Seed machine by root alone, while the fence of lending.py holds: no service makes it,
none keeps it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr
from sqlmodel import Session

from provisioning import handout
from provisioning.handout import HandOutNode
from provisioning.lent import OWNERS
from provisioning.logins import Trust
from provisioning.models import Bmc, Claim
from provisioning.states import Borrower
from provisioning.store import record

Servers = Sequence[tuple[Bmc, HandOutNode]]


@dataclass(frozen=True, slots=True)
class Export:
    """text: of the file, YAML with passwords in it. ca_pem: by which its Ironic can verify its
    BMCs. unverified: addresses of those that no client can verify. without_mac: hosts of which it
    is not known by which NIC they boot; only with IPMI is Metal3 content with that.

    beside: what goes with it and has no secret, by the end of its name.
    """

    text: SecretStr
    hosts: tuple[str, ...]
    ca_pem: str
    unverified: tuple[str, ...]
    without_mac: tuple[str, ...]
    beside: Mapping[str, str] = field(default_factory=dict)


def made(
    session: Session, claim: Claim, to: Borrower, servers: Servers, text: str, who: str,
    seed_ca: str, beside: Mapping[str, str] | None = None,
) -> Export:  # fmt: skip
    """It is recorded. seed_ca: PEM of the CA by which Seed makes certificates for BMCs."""
    hosts = tuple(node.name for _bmc, node in servers)
    record(
        session, "claim.exported", claim.id,
        f"{claim.name}: {len(hosts)} BMC logins for {OWNERS[to]}",
        who=who, project=claim.project,
    )  # fmt: skip
    unknown = tuple(
        node.name
        for bmc, node in servers
        if bmc.protocol != "ipmi" and handout.boot_address(session, bmc.node) is None
    )
    unverified = tuple(bmc.address for bmc, _node in servers if bmc.trust == Trust.NOTHING)
    certificates = "".join(_certificates([bmc for bmc, _node in servers], seed_ca))
    return Export(SecretStr(text), hosts, certificates, unverified, unknown, beside or {})


def _certificates(bmcs: Sequence[Bmc], seed_ca: str) -> Iterator[str]:
    if any(bmc.trust == Trust.SEED_CA for bmc in bmcs):
        yield seed_ca
    yield from (bmc.certificate for bmc in bmcs if bmc.trust == Trust.OWN)
