"""Who may do what: the four roles, scopes within them, and the caller that has some of them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from provisioning.errors import Forbidden


class Role(StrEnum):
    """None contains another: an operator cannot destroy, a destroyer cannot claim."""

    VIEWER = "viewer"  # reads everything
    CLAIMER = "claimer"  # claims and releases for its own project, and sees that project only
    OPERATOR = "operator"  # runs the building: BMCs, nodes, images, networks
    DESTROYER = "destroyer"  # may end what belongs to others


EVERYONE: Final = frozenset(Role)
INSIDERS: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.DESTROYER})
"""Those who see every project, and BMCs."""
MINTERS: Final = frozenset({Role.OPERATOR, Role.DESTROYER})
"""Those who give tokens and users to others."""
_READ: Final = ":read"


def noun_of(path: str) -> str:
    """What a scope names of a path: "claims" of /v1/claims/web:release; "baremetal"."""
    return path.removeprefix("/v1").lstrip("/").partition("/")[0].partition(":")[0]


def allows(scopes: Collection[str], method: str, path: str) -> bool:
    """Whether a token with these scopes is good for this request. Without any: for all."""
    noun = noun_of(path)
    return not scopes or noun in scopes or (method in ("GET", "HEAD") and noun + _READ in scopes)


def within(asked: Collection[str], own: Collection[str]) -> bool:
    """Whether the scopes `asked` let nothing through that `own` do not."""
    if not own:
        return True
    return bool(asked) and all({s, s.removesuffix(_READ)} & set(own) for s in asked)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody we know.

    name:       a token's name, a user's, or that of a user on this machine.
    project:    where its claims live.
    named:      the request itself says for which project, so no other's is meant.
    root:       the administrator of this machine, who may speak for every project.
    user:       the user of ours whose session it is; empty: no session.
    token:      the name of the token that was shown; empty: none of ours was.
    scopes:     what of its roles the token is good for, as "claims" or "claims:read"; empty: all.
    expires_at: when what was shown ends; None: it does not.
    """

    name: str
    roles: frozenset[Role]
    project: str = "default"
    named: bool = False
    root: bool = False
    user: str = ""
    token: str = ""
    scopes: frozenset[str] = frozenset()
    expires_at: datetime | None = None

    @property
    def mints(self) -> bool:
        return bool(self.roles & MINTERS)

    @property
    def sees_all(self) -> bool:
        return bool(self.roles & INSIDERS)

    @property
    def looks_in(self) -> str | None:
        """Whose things a name is looked for among; None: everybody's."""
        return None if self.sees_all and not self.named else self.project

    def sees(self, project: str) -> bool:
        return self.sees_all or project == self.project


def may_change(caller: Caller, nouns: str) -> str | None:
    """In which project: its own as a claimer, anybody's (None) as a destroyer. Raises Forbidden."""
    if Role.DESTROYER in caller.roles:
        return caller.looks_in
    if Role.CLAIMER in caller.roles:
        return caller.project
    raise Forbidden(
        f"{caller.name} may not change {nouns}: it takes the role claimer or destroyer",
        "seed token create NAME --role claimer  (as root on the Seed host)",
    )
