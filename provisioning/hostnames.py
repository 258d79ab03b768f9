"""BMCs that a list calls by a host name: asked of DNS once, when the list is read.

What a name leads to later is of no concern: a BMC is known by its address from then on.
"""

import re
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from typing import Final

TIMEOUT: Final = 10.0  # seconds for all names of a list
AT_ONCE: Final = 32
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")  # RFC 1123, 2.1
_LONGEST: Final = 254  # with the dot at its end
_REMEDY: Final = "write its address into the file, or correct DNS, then import the file again"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a name. Without an address, `problem` says why."""

    name: str
    address: str = ""
    problem: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.problem or f'is {self.address}'}"


def resolved(names: Iterable[str], timeout: float = TIMEOUT) -> dict[str, Answer]:
    """Each name's one address: of IPv4 where it has both. Returns in time, whatever DNS does."""
    wanted = sorted(set(names))
    waiting: SimpleQueue[str] = SimpleQueue()
    answers: SimpleQueue[Answer] = SimpleQueue()
    for name in wanted:
        waiting.put(name)
    end = time.monotonic() + timeout
    for _ in range(min(AT_ONCE, len(wanted))):  # getaddrinfo(3) has no timeout of its own
        threading.Thread(target=_ask, args=(waiting, answers, end), daemon=True).start()
    found: dict[str, Answer] = {}
    while len(found) < len(wanted):
        try:
            answer = answers.get(timeout=max(end - time.monotonic(), 0.001))
        except Empty:
            break
        found[answer.name] = answer
    late = f"got no answer from DNS in {timeout:.0f} s: {_REMEDY}"
    return {name: found.get(name, Answer(name, problem=late)) for name in wanted}


def _ask(waiting: SimpleQueue[str], answers: SimpleQueue[Answer], end: float) -> None:
    while time.monotonic() < end:
        try:
            name = waiting.get_nowait()
        except Empty:
            return
        answers.put(_one(name))


def _one(name: str) -> Answer:
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        return Answer(name, problem=f"is neither an address nor a host name: {_REMEDY}")
    try:
        told = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except OSError as err:
        why = err.strerror or "no answer"
        return Answer(name, problem=f"is not known to DNS ({why}): {_REMEDY}")
    usable = {ip for entry in told if _usable(ip := ip_address(str(entry[4][0])))}
    addresses = [ip for ip in usable if ip.version == min(each.version for each in usable)]
    if len(addresses) == 1:
        return Answer(name, str(addresses[0]))
    listed = ", ".join(sorted(map(str, addresses))) or "none that a BMC may have"
    return Answer(name, problem=f"has not one address but {listed}: {_REMEDY}")


def _usable(ip: object) -> bool:
    away = ("is_loopback", "is_unspecified", "is_multicast", "is_link_local")
    return not any(getattr(ip, word) for word in away)
