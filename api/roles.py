"""Who may do what: the four roles, and the caller that has some of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """None contains another: an operator cannot destroy, a destroyer cannot claim."""

    VIEWER = "viewer"  # reads everything
    CLAIMER = "claimer"  # claims and releases for its own project, and sees that project only
    OPERATOR = "operator"  # runs the building: BMCs, nodes, images, networks
    DESTROYER = "destroyer"  # may end what belongs to others


EVERYONE: Final = frozenset(Role)
INSIDERS: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.DESTROYER})
"""Those who see every project, and BMCs."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody we know.

    name:    a token's name, or a user's name on this machine.
    project: where its claims live.
    root:    the administrator of this machine, who may speak for every project.
    """

    name: str
    roles: frozenset[Role]
    project: str = "default"
    root: bool = False

    @property
    def sees_all(self) -> bool:
        return bool(self.roles & INSIDERS)

    def sees(self, project: str) -> bool:
        return self.sees_all or project == self.project
