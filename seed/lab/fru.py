"""FRU data as an IPMI BMC gives it: IPMI Platform Management FRU Information Storage 1.0 rev 1.3.

Common header, then chassis, board and product area. Every area is a multiple of eight bytes, its
last byte making the sum zero modulo 256.
"""

from datetime import UTC, datetime

from seed.lab.scenario import Server

_RACK_MOUNT_CHASSIS = 0x17  # SMBIOS chassis type, section 10 of the specification
_ENGLISH = 25
_ASCII = 0b11 << 6  # type/length byte: "interpretation depends on language", here 8-bit ASCII
_END = 0xC1
_BOARD_MADE = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
_EPOCH = datetime(1996, 1, 1, tzinfo=UTC)


def _with_checksum(body: bytes) -> bytes:
    return body + bytes([-sum(body) % 256])


def _field(text: str) -> bytes:
    """Type/length byte and text. A length of one would read as the end marker, so none is given."""
    raw = text.encode("ascii")[:63]
    if len(raw) == 1:
        raw += b" "
    return bytes([_ASCII | len(raw)]) + raw if raw else b"\x00"


def _area(head: bytes, *fields: str) -> bytes:
    """One area: version, length in units of eight bytes, head, fields, end marker, checksum."""
    body = head + b"".join(_field(text) for text in fields) + bytes([_END])
    units = (2 + len(body) + 1 + 7) // 8
    padded = bytes([1, units]) + body
    return _with_checksum(padded.ljust(units * 8 - 1, b"\x00"))


def fru(server: Server) -> bytes:
    """The server's FRU inventory: manufacturer, model and serial as in its SMBIOS."""
    minutes = int((_BOARD_MADE - _EPOCH).total_seconds() // 60)
    chassis = _area(bytes([_RACK_MOUNT_CHASSIS]), server.model, server.serial)
    board = _area(
        bytes([_ENGLISH]) + minutes.to_bytes(3, "little"),
        server.manufacturer,
        f"{server.model} board",
        server.serial,
        server.model,
        "",  # FRU file id
    )
    product = _area(
        bytes([_ENGLISH]),
        server.manufacturer,
        server.model,
        server.model,  # part number
        "1.0",  # version
        server.serial,
        "",  # asset tag
        "",  # FRU file id
    )
    offsets, at = [], 8
    for area in (chassis, board, product):
        offsets.append(at // 8)
        at += len(area)
    header = bytes([1, 0, *offsets, 0, 0])
    return _with_checksum(header) + chassis + board + product
