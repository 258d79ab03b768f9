"""Answers that no BMC should give."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from seed.lab.fleet import parts
from seed.lab.fleet.bmc import Bmc
from seed.lab.fleet.spec import Lie

HUGE = 4 * 10**9
PIECE = b'"x": "' + b"a" * 65000 + b'",\n'
NOISE = b"\xff\xfe]]] this is no JSON {{{" + bytes(range(256))
TLS_NOISE = b"\x15\x03\x01\xff\xff" + NOISE * 4


def spoken(bmc: Bmc, path: str) -> Lie | None:
    """The lie of this answer in its plain form; a "deep-" one leaves the service root true."""
    if bmc.lie is None or not bmc.lie.startswith("deep-"):
        return bmc.lie
    if path == parts.ROOT:
        return None
    return Lie(bmc.lie.removeprefix("deep-"))


def amended(bmc: Bmc, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The resource as a liar tells it: what stays JSON."""
    lie = spoken(bmc, path)
    if lie is Lie.TYPES:
        return {key: _other_type(key, value) for key, value in body.items()}
    if lie is Lie.CYCLE and "Members" in body:
        return body | {"Members": [parts.link(path)], "Members@odata.nextLink": path}
    if path == f"{parts.ROOT}/Systems" and lie is Lie.TWO_SYSTEMS:
        return parts.collection(path, "ComputerSystem", ["1", "1/"])
    if path == f"{parts.ROOT}/Systems" and lie is Lie.NO_SYSTEM:
        return parts.collection(path, "ComputerSystem", [])
    return body


def _other_type(key: str, value: Any) -> Any:  # noqa: ANN401
    if key.startswith("@") or key == "RedfishVersion":
        return value
    return 17 if isinstance(value, str) else "seventeen"


def redirect(bmc: Bmc, path: str) -> str | None:
    """Where an endless redirect leads next."""
    if spoken(bmc, path) is not Lie.REDIRECT:
        return None
    return f"https://{_host(bmc.address)}{path}/"


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def text(bmc: Bmc, path: str, body: dict[str, Any]) -> bytes:
    """A body as bytes; a truncated one says in its header that it is whole."""
    whole = json.dumps(body).encode()
    lie = spoken(bmc, path)
    if lie is Lie.TRUNCATED:
        return whole[: len(whole) // 2]
    return NOISE if lie is Lie.NOT_JSON else whole


async def endless(bmc: Bmc, path: str, body: bytes) -> AsyncIterator[bytes]:
    """A body that takes for ever: 4 GB, or one byte a second."""
    if spoken(bmc, path) is Lie.DRIP:
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(1)
        return
    yield b'{"RedfishVersion": "1.15.0",\n'
    for _ in range(HUGE // len(PIECE)):
        yield PIECE


def is_endless(bmc: Bmc, path: str) -> bool:
    return spoken(bmc, path) in (Lie.HUGE_BODY, Lie.DRIP)
