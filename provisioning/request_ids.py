"""One id from a caller's request, or a reconciler's step, to Ironic's log.

It is bound as `request` in structlog's context variables, so that every log line and event of the
thread carries it. Ironic takes a global request id of one form only, and drops any other without
a word: "req-" and a UUID in lower case (ID_FORMAT in oslo.middleware's request_id).
"""

import re
from collections import UserDict
from collections.abc import ItemsView, Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID, uuid4, uuid5

import structlog

HEADER: Final = "X-OpenStack-Request-ID"
_KEY: Final = "request"
_UUID = re.compile(r"(?:req-)?([0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})")
_NAMES: Final = UUID("7a1f1ce9-5eed-4b1d-9c0a-1d1d1d1d1d1d")
"""Of the UUIDs that stand for ids that are none. Changed, old logs no longer fit together."""


def current() -> str:
    """The id that this thread works for; "" where none is bound."""
    return str(structlog.contextvars.get_contextvars().get(_KEY, ""))


@contextmanager
def a_new_one() -> Iterator[str]:
    """Bind a new id for one step."""
    new = uuid4().hex
    with structlog.contextvars.bound_contextvars(**{_KEY: new}):
        yield new


def for_ironic(given: str) -> str:
    """`req-<uuid>`: the same UUID where `given` is one, else uuid5 of it, always the same."""
    found = _UUID.fullmatch(given.lower())
    return f"req-{UUID(found[1]) if found else uuid5(_NAMES, given)}"


class Headers(UserDict[str, str]):
    """What goes along with a request to Ironic, looked up by the thread that sends it."""

    def items(self) -> ItemsView[str, str]:
        given = current()
        return ({HEADER: for_ironic(given)} if given else {}).items()
