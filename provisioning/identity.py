"""What tells one server from another, and what vendors write where nothing was filled in.

A key is empty for a word that means nothing: two boxes that both say "Default string" are not one.
"""

import re
from ipaddress import ip_address
from uuid import UUID

from provisioning.errors import Invalid
from provisioning.networks import mac

PLACEHOLDERS = frozenset(
    {
        "", "none", "null", "n/a", "na", "unknown", "not specified", "not available", "not present",
        "not applicable", "not provided", "no asset information", "no asset tag", "empty",
        "invalid",
        "to be filled by o.e.m.", "to be filled by o.e.m", "to be filled by oem", "default string",
        "default", "o.e.m.", "oem", "system serial number", "chassis serial number",
        "base board serial number", "serial number", "asset-1234567890", "0123456789",
        "1234567890", "123456789", "12345678", "sernum0", "tobefilled", "undefined",
    }
)  # fmt: skip
_ONE_SIGN = re.compile(r"(.)\1*")  # 0000000, FFFF, xxxxx, ......
_ODD_UUIDS = frozenset(
    {
        "03000200-0400-0500-0006-000700080009",  # written by AMI firmware that nobody adapted
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "00112233-4455-6677-8899-aabbccddeeff",
    }
)


def serial_key(text: str) -> str:
    """A serial number for comparison; empty for a placeholder."""
    word = " ".join(text.split()).casefold()
    if word in PLACEHOLDERS or _ONE_SIGN.fullmatch(word.replace("-", "").replace(" ", "")):
        return ""
    return word


def uuid_key(text: str) -> str:
    """A system's UUID for comparison; empty for a placeholder.

    SMBIOS up to 2.5 left the byte order of the first three fields open (DSP0134, 7.2.1), so a BMC
    and a ramdisk may tell one UUID in two ways: both have the same key.
    """
    try:
        uuid = UUID(text.strip())
    except ValueError:
        return ""
    both = sorted((str(uuid), str(UUID(bytes_le=uuid.bytes))))
    if _ONE_SIGN.fullmatch(uuid.hex) or not _ODD_UUIDS.isdisjoint(both):
        return ""
    return both[0]


def mac_key(text: str) -> str:
    """A MAC as Ironic stores it; empty for zeros, group addresses and what is no MAC."""
    try:
        return mac(text) if text else ""
    except Invalid:
        return ""


def address_key(text: str) -> str:
    """An IP address in its one spelling; empty for none and "0.0.0.0"."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return ""
    return "" if address.is_unspecified else str(address)
