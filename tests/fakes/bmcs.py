"""BMCs that are only answers, for tests of what is done with them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from provisioning.bmc import Access, Contact, Identity, Knock, Shout
from provisioning.errors import BmcLoginRefused
from provisioning.models import Credential
from provisioning.secrets import Sealer

RIGHT = "right"
NO_KEY = Sealer(Path("/nonexistent"))  # no default login is kept here


@dataclass
class Room:
    """BMCs at addresses. Each speaks one protocol, knows one password and counts who tries it."""

    name: str
    identities: dict[str, Identity]
    driver: str = "fake-hardware"
    knock: Knock | None = None  # each address is probed
    shout: Shout | None = None
    at_once: int = 16
    fingerprint: str = "a" * 64
    lies: dict[str, BaseException] = field(default_factory=dict)
    logins: Counter[str] = field(default_factory=Counter)

    async def probe(self, address: str, timeout: float, line: Any = None) -> Contact | None:
        known = address in self.identities or address in self.lies
        return Contact(address, self.name, self.fingerprint, "PEM") if known else None

    def heard(self, address: str) -> Contact | None:
        return None

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        self.logins[contact.address] += 1
        if contact.address in self.lies:
            raise self.lies[contact.address]
        if access.password.get_secret_value() != RIGHT:
            raise BmcLoginRefused(f"the BMC {contact.address} refused the login", "seed discover")
        return self.identities[contact.address]

    def driver_info(self, *_: Any) -> dict[str, Any]:
        return {}


def access(credential: Credential) -> Access:
    return Access(credential.username, SecretStr(credential.name), f"mark-{credential.name}")
