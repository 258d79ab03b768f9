"""What `seed login` keeps of a Seed elsewhere: one file per server, which only its owner reads."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit


class Method(StrEnum):
    """What the token is, and so in which header it travels."""

    SEED = "seed"  # Seed's own: of `seed token create`, or a session
    OIDC = "oidc"
    KEYSTONE = "keystone"

    def headers(self, token: str) -> dict[str, str]:
        if self is Method.KEYSTONE:
            return {"X-Auth-Token": token}
        return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Login:
    """project: which one its verbs act for; empty: the only one. refresh: what renews it."""

    token: str = field(repr=False)
    method: Method = Method.SEED
    project: str = ""
    refresh: Mapping[str, str] = field(default_factory=dict, repr=False)


def session_file(server: str) -> Path:
    """Where a login at this server is kept; another server is never shown it."""
    where = urlsplit(server).netloc.rpartition("@")[2]
    return Path.home() / ".config" / "seed" / f"session-{re.sub(r'[^A-Za-z0-9.]', '-', where)}"


def kept(server: str) -> Login | None:
    """The login at this server; None: there is none, or nobody can read it."""
    try:
        found = json.loads(session_file(server).read_text())
        return Login(**{**found, "method": Method(found["method"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(server: str, login: Login) -> Path:
    from ipxe.render import write_atomic

    file = session_file(server)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file, json.dumps(asdict(login)) + "\n", 0o600)
    return file
