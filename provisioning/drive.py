"""Config drives: one node's, put together, and looked at before a disk is touched."""

import base64
import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from provisioning import on_node, user_data
from provisioning.errors import Invalid
from provisioning.targets import NodeFile, PartUrl, Seat

LARGEST: Final = 64_000
"""Bytes. Ironic's documentation stores a drive in its database below 64 KB, and Seed's has no
object store."""
SECTOR: Final = 2048
HEAD: Final = 24 * SECTOR  # volume descriptors, path tables, folders: as mkisofs makes them
ENTRIES: Final = 4096  # what folders and descriptors add, packed: seen were 2,400 to 3,400 bytes
_FILES: Final = ("meta_data", "network_data", "user_data", "vendor_data")
"""In the order of the files' names, in which mkisofs writes them."""


class HasMacs(Protocol):
    """A node's NICs: NodeNics."""

    @property
    def macs(self) -> set[str]: ...


def seat(
    *,
    node_uuid: str,
    hostname: str,
    network_data: dict[str, Any],
    gateway_url: str,
    token: str,
    ca_pem: str,
    files: Sequence[NodeFile] = (),
    parts: Sequence[PartUrl] = (),
    kernel_args: Sequence[str] = (),
    services: Sequence[str] = (),
) -> Seat:
    """A node's place with all that its drive says. token: of its proof."""
    home = on_node.phone_home(f"{gateway_url}/v1/phone-home", token, ca_pem, kernel_args, services)
    return Seat(
        node_uuid, hostname, network_data, home, tuple(files), tuple(parts), tuple(kernel_args),
        ca_pem,
    )  # fmt: skip


def check(drive: Mapping[str, Any], node: HasMacs | None, name: str) -> None:
    """Raises Invalid, naming the node, where `lint` finds anything."""
    found = lint(drive, node)
    if found:
        raise Invalid(
            f"the config drive of {name}: {'; '.join(found[: user_data.TOLD])}",
            "See it: `seed claim preview NAME`.",
        )


def lint(drive: Mapping[str, Any], node: HasMacs | None) -> list[str]:
    """What is wrong with it, a sentence each; empty: nothing. node: None where it is not known."""
    told = drive.get("user_data") or ""
    found = [f"user_data: {fault}" for fault in user_data.faults(told)]
    if node is not None:
        found += _strangers(drive.get("network_data") or {}, node)
    for name in ("meta_data", "network_data", "vendor_data"):
        # Not JSON: there a key's line breaks are two characters each.
        texts = "\n".join(_texts(drive.get(name) or {}))
        found += [f"{name}: {what} is in it" for what in user_data.secrets_in(texts)]
    return found + _size(drive)


def warnings(drive: Mapping[str, Any]) -> list[str]:
    """What may be meant so."""
    return [f"user_data: {w}" for w in user_data.warnings(str(drive.get("user_data") or ""))]


def stored_bytes(drive: Mapping[str, Any]) -> int:
    """As Ironic 39 keeps it until the deploy is over: the JSON that it was given."""
    return len(json.dumps(drive).encode())


def packed_bytes(drive: Mapping[str, Any]) -> int:
    """As Ironic 39 sends it to the ramdisk: base64 of gzip of an ISO 9660 file, a bit more than so.

    openstacksdk 4.22 (openstack/baremetal/configdrive.py) writes every file twice, for the versions
    2012-08-10 and latest; gzip sees the second one only within 32 KiB of the first.
    """
    files = [_padded(drive[key], key) for key in _FILES if drive.get(key)]
    image = bytes(HEAD) + b"".join(files) * 2
    return len(base64.b64encode(gzip.compress(image, 9))) + ENTRIES


def _padded(content: Any, key: str) -> bytes:  # noqa: ANN401
    if key == "user_data":
        raw = content if isinstance(content, bytes) else str(content).encode("utf-8", "replace")
    else:
        raw = json.dumps(content).encode()
    return raw + bytes(-len(raw) % SECTOR)


def _size(drive: Mapping[str, Any]) -> list[str]:
    found = []
    for what, size in (("stored", stored_bytes(drive)), ("packed", packed_bytes(drive))):
        if size > LARGEST:
            found.append(
                f"it takes {size} bytes {what}, and Ironic keeps {LARGEST}: move the largest "
                "files of user_data to secret_files"
            )
    return found[:1]


def _strangers(network_data: Mapping[str, Any], node: HasMacs) -> Iterable[str]:
    has = {mac.lower() for mac in node.macs}
    for link in network_data.get("links") or ():
        mac = str(link.get("ethernet_mac_address") or "").lower()
        if link.get("type") == "phy" and mac not in has:
            yield f"network_data: the node has no NIC {mac or '(no MAC is said)'}"


def _texts(value: Any) -> Iterable[str]:  # noqa: ANN401
    if isinstance(value, str):
        yield value
        yield from _decoded(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _decoded(text: str) -> Iterable[str]:
    """JSON inside of a script has its line breaks as two characters."""
    if "\\n" in text:
        yield re.sub(r"\\n", "\n", text)
