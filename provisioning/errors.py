"""SeedError and its family: what happened, what to do, and whether a retry makes sense.

SeedError
    Invalid            422  what was asked for cannot be, as written
    NotFound           404  no such noun
    Conflict           409  it exists, but not in a state that allows this
    Forbidden          403  the caller may not
    Unauthenticated    401  the caller is nobody
    NoCapacity         409  fewer nodes than asked for; says which rule rejected each
    QuotaExceeded      409  the project would hold more nodes than it may
    TooMany            429  too many tries, or too many at once: later again
    BmcError           502  a BMC refused, lied or answered nonsense
      BmcUnreachable   504
      BmcLoginRefused  409  never retried with the same login
      BmcRefused       409  it understood, and said no: nothing changed
      BmcBusy          503  its login is being changed: nobody else logs in meanwhile
      HungUp           503  Seed goes down: we ended the conversation
    IronicUnavailable  503  a named dependency is down
    VaultUnavailable   503  logins live there, and it does not give them
    KubeUnavailable    503  a cluster's Kubernetes API does not answer
    KubeRefused        409  a cluster's Kubernetes API says no
    HostError          500  this machine is not fit (CLI only: never raised inside the API)
"""

from datetime import datetime
from typing import ClassVar


class SeedError(Exception):
    """Base of all. `str(error)` is one sentence; `remedy` is something a person can type."""

    code: ClassVar[str] = "seed-error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def told(error: SeedError) -> dict[str, str]:
    """As a stored row keeps it."""
    return {"problem": str(error), "remedy": error.remedy}


class Invalid(SeedError):
    code, status = "invalid", 422


class NotFound(SeedError):
    code, status = "not-found", 404


class Conflict(SeedError):
    code, status = "conflict", 409


class Forbidden(SeedError):
    code, status = "forbidden", 403


class Unauthenticated(SeedError):
    code, status = "unauthenticated", 401


class NoCapacity(Conflict):
    """Not enough nodes.

    reasons: a node's name -> the rule that rejected it. free_at: when it could be had, if nobody
    else comes; None: nobody knows. nearest: the nodes that lack least, and what.
    """

    code = "no-capacity"

    def __init__(
        self,
        what: str,
        remedy: str,
        reasons: dict[str, str],
        free_at: datetime | None = None,
        nearest: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__(what, remedy)
        self.reasons = reasons
        self.free_at = free_at
        self.nearest = nearest or {}


class QuotaExceeded(Conflict):
    code = "quota-exceeded"


class TooMany(SeedError):
    """`retry_seconds`: from when on it may be tried again."""

    code, status, retryable = "too-many", 429, True

    def __init__(self, what: str, remedy: str, retry_seconds: int) -> None:
        super().__init__(what, remedy)
        self.retry_seconds = retry_seconds


class BmcError(SeedError):
    code, status = "bmc-error", 502


class BmcUnreachable(BmcError):
    code, status, retryable = "bmc-unreachable", 504, True


class BmcLoginRefused(BmcError):
    """Never retried by itself: a second wrong login may lock the account."""

    code, status = "bmc-login-refused", 409


class BmcRefused(BmcError):
    code, status = "bmc-refused", 409


class BmcBusy(BmcError):
    code, status, retryable = "bmc-busy", 503, True


class HungUp(BmcError):
    """We ended the conversation, not the BMC: Seed goes down."""

    code, status, retryable = "hung-up", 503, True

    def __init__(self, address: str) -> None:
        super().__init__(
            f"Seed went down while it talked to BMC {address}", "It goes on with `seed up`."
        )


class IronicUnavailable(SeedError):
    code, status, retryable = "ironic-unavailable", 503, True


class VaultUnavailable(SeedError):
    code, status, retryable = "vault-unavailable", 503, True


class KubeUnavailable(SeedError):
    code, status, retryable = "kube-unavailable", 503, True


class KubeRefused(SeedError):
    """`said`: its HTTP status."""

    code, status = "kube-refused", 409

    def __init__(self, what: str, remedy: str, said: int) -> None:
        super().__init__(what, remedy)
        self.said = said


class HostError(SeedError):
    """Something on this machine is not as Seed needs it."""

    code, status = "host", 500
