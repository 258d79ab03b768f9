"""Reading what somebody else's machine sent: the wrong type is empty, never an error."""

from typing import Any

Doc = dict[str, Any]
MOST = 256  # entries of one list
TEXT = 255  # characters of one value


def text(value: object) -> str:
    """A string or number, stripped and cut; else empty."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return "".join(c for c in str(value) if c.isprintable()).strip()[:TEXT]


def number(value: object) -> float:
    """A number that is not negative; else 0. Some BMCs send numbers as strings."""
    if isinstance(value, bool):
        return 0
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0
    return found if 0 <= found < 2**63 else 0  # neither nan nor infinity


def doc(value: object) -> Doc:
    return value if isinstance(value, dict) else {}


def listing(value: object) -> list[Any]:
    return value[:MOST] if isinstance(value, list) else []


def at(value: object, *names: str) -> Any:  # noqa: ANN401
    """value[name][name]..., None where there is no such thing."""
    for name in names:
        value = doc(value).get(name)
    return value


def texts(value: object) -> tuple[str, ...]:
    return tuple(t for t in map(text, listing(value)) if t)
