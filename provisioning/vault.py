"""Logins that live in HashiCorp Vault or OpenBao: KV version 2, read when they are needed.

One GET (Vault's API documentation, "KV secrets engine - version 2", read secret version), so no
client library. A reference is `vault:MOUNT/PATH`; the secret there has the keys `username` and
`password`.
"""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from provisioning.errors import Invalid, NotFound, VaultUnavailable
from provisioning.models import Credential

PREFIX: Final = "vault:"
_REFERENCE: Final = re.compile(r"vault:([A-Za-z0-9_-]{1,64})/([A-Za-z0-9][A-Za-z0-9_./-]{0,200})")
TIMEOUT: Final = 10.0
ANSWER_CAP: Final = 64 * 1024


def in_vault(credential: Credential) -> bool:
    """Is this row a reference, with the login itself in the vault?"""
    return credential.name.startswith(PREFIX)


class _Login(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)
    username: str
    password: SecretStr


@dataclass(frozen=True)
class Vault:
    """token_file: read at each use, so that an agent may renew it. ca_file: None: the system's."""

    url: str
    token_file: Path
    ca_file: Path | None = None

    def read(self, reference: str) -> tuple[str, SecretStr]:
        """(user name, password). NotFound, Invalid, VaultUnavailable."""
        mount, path = split(reference)
        try:
            answer = self._get(f"/v1/{mount}/data/{path}")
        except (httpx.HTTPError, OSError) as err:
            raise VaultUnavailable(
                f"the vault at {self.url} did not answer",
                f"Is it up and unsealed, and is its token in {self.token_file}?",
            ) from err
        if answer.status_code == 403:
            raise VaultUnavailable(
                f"the vault at {self.url} does not let Seed read {reference}",
                f"Give the token in {self.token_file} the right to read it, or renew it.",
            )
        if answer.status_code == 404:
            raise NotFound(f"the vault has no {reference}", f"vault kv get -mount={mount} {path}")
        return self._login(reference, answer)

    def _get(self, path: str) -> httpx.Response:
        trust = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        headers = {"X-Vault-Token": self.token_file.read_text().strip()}
        with httpx.Client(base_url=self.url, verify=trust, timeout=TIMEOUT) as client:
            return client.get(path, headers=headers, follow_redirects=False)

    def _login(self, reference: str, answer: httpx.Response) -> tuple[str, SecretStr]:
        if answer.status_code != 200 or len(answer.content) > ANSWER_CAP:
            raise VaultUnavailable(
                f"the vault at {self.url} answered {answer.status_code} for {reference}",
                "Ask its administrator: is it sealed, or a standby?",
            )
        try:
            login = _Login.model_validate(answer.json()["data"]["data"])
        except (ValidationError, ValueError, KeyError, TypeError) as err:
            raise Invalid(
                f"{reference} is no login: it takes the keys username and password",
                "vault kv put -mount=MOUNT PATH username=admin password=-",
            ) from err
        return login.username, login.password


def split(reference: str) -> tuple[str, str]:
    """(mount, path) of a reference. Invalid: it is none."""
    found = _REFERENCE.fullmatch(reference)
    if found is None or ".." in reference:
        raise Invalid(
            f"{reference!r} is no place in a vault",
            "Write it as vault:MOUNT/PATH: `seed discover RANGE --credential vault:secret/rack-a`.",
        )
    return found[1], found[2]
