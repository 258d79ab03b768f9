"""What a reconcile step works with; wired by seed/appliance code, faked by tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import select

from provisioning import wire
from provisioning.bmc import Access, BmcProtocol, Contact, Identity
from provisioning.errors import Conflict, NotFound
from provisioning.image import Image
from provisioning.ironic import Ironic
from provisioning.models import Bmc, Credential
from provisioning.networks import Pool
from provisioning.store import Store
from provisioning.wire import BootService

LOGIN_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class Parts:
    store: Store
    ironic: Ironic
    protocols: dict[str, BmcProtocol]
    access: Callable[[Credential], Access]
    """Opens a stored login: only the reconciler can."""
    token: Callable[[str], str]
    """A secret fixed by our key and a purpose."""
    pool: Pool
    boot: BootService
    ca_dir: Path
    """Where Ironic finds the certificates of BMCs."""
    image: Callable[[str], Image]
    boot_url: str
    gateway_url: str
    gateway_ca: Path

    def serve_wire(self) -> None:
        """Bring DHCP and boot files in line with the rows, before a server is told to boot."""
        with self.store.read() as session:
            state = wire.wanted(session)
        self.boot.serve(state)

    def login(self, bmc: Bmc) -> Access:
        with self.store.read() as session:
            found = session.exec(
                select(Credential).where(Credential.id == bmc.credential_id)
            ).first()
        if found is None:
            raise NotFound(
                f"no login is kept for BMC {bmc.address}",
                f"Give one: `seed discover {bmc.address} --username U --password-stdin`.",
            )
        return self.access(found)

    def verify_identity(self, bmc: Bmc, macs: list[str]) -> None:
        """Ask the BMC who it is, right before a disk is touched. Conflict when it is not the same.

        A BMC that cannot name its serial and UUID proves nothing, so it is refused too.
        """
        contact = Contact(bmc.address, bmc.protocol, bmc.fingerprint, bmc.certificate)
        found = self.protocols[bmc.protocol].identify(contact, self.login(bmc), LOGIN_TIMEOUT)
        for what, told, known in _facts(bmc, found):
            if told != known:
                raise Conflict(
                    f"BMC {bmc.address} says {what} {told or 'nothing'}, "
                    f"{bmc.node_name} was accepted with {known or 'nothing'}",
                    "No disk was touched. If the server was swapped: `seed bmc forget "
                    f"{bmc.address}`, then discover it; else see which box hangs there.",
                )
        strangers = set(macs) - set(found.macs) if found.macs else set()
        if strangers:
            raise Conflict(
                f"BMC {bmc.address} does not know the boot NIC {', '.join(sorted(strangers))}",
                f"No disk was touched. Check the cabling, then `seed node retry {bmc.node_name}`.",
            )


def _facts(bmc: Bmc, found: Identity) -> list[tuple[str, str, str]]:
    return [
        ("serial", found.serial, bmc.serial or "\0no serial was ever known"),
        ("UUID", found.system_uuid, bmc.system_uuid),
    ]
