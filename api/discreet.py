"""Sentences for claimers: those of steps and of Ironic name BMCs, which are not theirs to know."""

import re
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Final, Protocol

HIDDEN: Final = "(not shown)"
_PLAIN: Final = re.compile(
    r"\b[a-z]+://[^\s'\"`,;)]+"  # a URL, whatever host it names
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b"
    r"|\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b",
    re.IGNORECASE,
)
_MAYBE_IPV6: Final = re.compile(r"(?<![\w:])[0-9a-f:]*:[0-9a-f:]*[0-9a-f](?!\w)", re.IGNORECASE)

_OF_BMCS: Final = re.compile(
    r"\bBMCs?\b|\bseed bmc\b|\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f]*:[0-9a-f]*", re.IGNORECASE
)


def of_bmcs(text: str) -> bool:
    """Whether it speaks of a BMC, or may: it is shown to people of the building only."""
    return bool(_OF_BMCS.search(text))


class Told(Protocol):
    """A row that says how it is. problem: it does not go on by itself."""

    name: str
    detail: str
    problem: str
    remedy: str


def without_bmcs(row: Told, noun: str) -> dict[str, str]:
    """Its sentences for claimers: what speaks of a BMC is for people of the building."""
    told = {"detail": row.detail, "problem": row.problem, "remedy": row.remedy}
    if not any(of_bmcs(text) for text in told.values()):
        return told
    stuck = bool(row.problem)
    return {
        "detail": "" if stuck else "a server of it is being seen to",
        "problem": "a server of it needs people of the building" if stuck else "",
        "remedy": f"Tell them, or `seed {noun} release {row.name}`." if stuck else "",
    }


def discreet(text: str) -> str:
    """`text` without addresses, MACs and URLs. Times of day stay."""
    return _MAYBE_IPV6.sub(_unless_other, _PLAIN.sub(HIDDEN, text))


def _unless_other(match: re.Match[str]) -> str:
    with suppress(ValueError):
        IPv6Address(match[0])
        return HIDDEN
    return match[0]
