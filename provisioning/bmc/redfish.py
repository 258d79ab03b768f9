"""Redfish (DSP0266) by sushy, over TLS pinned to the certificate seen before the first login."""

import asyncio
import contextlib
import functools
import hashlib
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import sushy
from requests.adapters import HTTPAdapter
from sushy import exceptions as sushy_errors
from sushy.auth import BasicAuth
from sushy.connector import Connector

from provisioning.bmc import Access, Contact, Identity, Knock, Shout, host
from provisioning.errors import BmcError, BmcLoginRefused, BmcUnreachable

PORT = 443
ANSWER_CAP = 256 * 1024  # bytes of a service root; a lying BMC could send for ever
HEAD_CAP = 16 * 1024
TAIL = 64  # bytes kept of the last piece: a word may lie across two
ROOT_ASKED = (
    b"GET /redfish/v1/ HTTP/1.1\r\nHost: %b\r\nAccept: application/json\r\n"
    b"OData-Version: 4.0\r\nConnection: close\r\n\r\n"
)
_CHUNK_SIZE = re.compile(rb"\r\n[0-9A-Fa-f]{1,8}\r\n")  # may stand in the middle of a word
# SSDP (DSP0266, 10.9.2): who is a Redfish service says so to the asker.
REDFISH_URN = b"urn:dmtf-org:service:redfish-rest:1"
SEARCH = (
    b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: '
    + REDFISH_URN
    + b"\r\n\r\n"
)


class _Pinned(HTTPAdapter):
    """Accepts exactly one certificate. BMCs sign their own: a CA says nothing about them."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, assert_fingerprint=self._fingerprint, **kwargs)


class Redfish:
    name = "redfish"
    driver = "redfish"

    knock: Knock | None = Knock(PORT)
    shout: Shout | None = Shout("239.255.255.250", 1900, SEARCH, lambda data: REDFISH_URN in data)

    def heard(self, address: str) -> Contact | None:
        return None

    async def probe(
        self, address: str, timeout: float, line: socket.socket | None = None
    ) -> Contact | None:
        with contextlib.ExitStack() as stack:
            if line is not None:
                stack.callback(line.close)
            # EOFError, ValueError, RuntimeError: asyncio's words for what liars do to TLS.
            stack.enter_context(
                contextlib.suppress(OSError, TimeoutError, EOFError, ValueError, RuntimeError)
            )
            async with asyncio.timeout(timeout):
                der = await _certificate_of_redfish(address, line)
                if der:
                    return Contact(
                        address=address,
                        protocol=self.name,
                        fingerprint=hashlib.sha256(der).hexdigest(),
                        certificate=ssl.DER_cert_to_PEM_cert(der),
                    )
        return None

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        with _translated(contact.address):
            root = _login(contact, access, timeout)
            systems = root.get_system_collection().get_members()
            if len(systems) != 1:
                raise BmcError(
                    f"the Redfish service on {contact.address} shows {len(systems)} systems, not 1",
                    "Seed takes one server per BMC for now; enroll chassis managers by hand.",
                )
            return _identity(root, systems[0])

    def driver_info(
        self, contact: Contact, identity: Identity, access: Access, ca_path: str
    ) -> dict[str, Any]:
        return {
            "redfish_address": f"https://{host(contact.address)}",
            "redfish_system_id": identity.system_id,
            "redfish_username": access.username,
            "redfish_password": access.password.get_secret_value(),
            "redfish_verify_ca": ca_path,
        }


async def _certificate_of_redfish(address: str, line: socket.socket | None) -> bytes | None:
    """The certificate (DER) of who tells a Redfish version by `GET /redfish/v1/` without a login.

    BMCs sign their own, and nothing secret is sent here. No HTTP library: thousands are asked.
    """
    where = {"sock": line} if line else {"host": address, "port": PORT}
    reader, writer = await asyncio.open_connection(
        **where,
        ssl=_anybody(),
        server_hostname="",
        limit=HEAD_CAP,
    )
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(ROOT_ASKED % host(address).encode())
        return der if await _tells_a_version(reader) else None
    finally:
        writer.transport.abort()


async def _tells_a_version(reader: asyncio.StreamReader) -> bool:
    status = (await reader.readline()).split()
    if len(status) < 2 or status[1] != b"200":
        return False
    size, window = 0, b""
    while size < ANSWER_CAP:
        piece = await reader.read(ANSWER_CAP)
        if not piece:
            return False
        size += len(piece)
        window = window[-TAIL:] + piece
        if b'"RedfishVersion"' in _CHUNK_SIZE.sub(b"", window):
            return True
    return False


@functools.cache
def _anybody() -> ssl.SSLContext:
    # Not create_default_context(): it loads the machine's CAs, 20 ms each time.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _login(contact: Contact, access: Access, timeout: float) -> Any:  # noqa: ANN401
    if not contact.fingerprint:  # an empty one would pin nothing
        raise BmcError(
            f"no certificate of BMC {contact.address} is known",
            f"`seed discover {contact.address}` finds it.",
        )
    url = f"https://{host(contact.address)}"
    connector = Connector(
        url, verify=False, server_side_retries=0, default_request_timeout=timeout,
        connect_timeout=timeout,
    )  # fmt: skip
    connector._session.mount("https://", _Pinned(contact.fingerprint))
    # Basic, not a session: nothing is left behind on a BMC with a table of eight.
    auth = BasicAuth(access.username, access.password.get_secret_value())
    return sushy.Sushy(url, auth=auth, connector=connector, server_side_retries=0)


def _identity(root: Any, system: Any) -> Identity:  # noqa: ANN401
    managers = root.get_manager_collection().get_members()
    manager_macs = sorted(_macs(managers[0])) if managers else []
    mode = (system.boot.get("mode") or "") if system.boot else ""
    return Identity(
        serial=str(system.serial_number or ""),
        system_uuid=str(system.uuid or "").lower(),
        vendor=str(system.manufacturer or ""),
        model=str(system.json.get("Model") or ""),
        manager_mac=manager_macs[0] if manager_macs else "",
        system_id=str(system.path),
        firmware={"uefi": "uefi", "legacy": "bios"}.get(
            str(getattr(mode, "value", mode)).lower(), ""
        ),
        macs=tuple(sorted(_macs(system))),
    )


def _macs(owner: Any) -> set[str]:  # noqa: ANN401
    """MACs of a system or manager; a BMC without EthernetInterfaces has none to tell."""
    try:
        members = owner.ethernet_interfaces.get_members()
    except sushy_errors.MissingAttributeError:
        return set()
    return {m.mac_address.lower() for m in members if m.mac_address}


@contextmanager
def _translated(address: str) -> Iterator[None]:
    try:
        yield
    except sushy_errors.AccessError as err:
        raise BmcLoginRefused(
            f"the BMC {address} refused the login",
            f"Give the right one: `seed discover {address} --username U --password-stdin`.",
        ) from err
    except (
        sushy_errors.ConnectionError,
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
    ) as err:
        raise BmcUnreachable(
            f"Redfish on BMC {address} did not answer, or its certificate changed",
            f"Check cable and VLAN of the BMC port (TCP 443), then `seed discover {address}`.",
        ) from err
    except (sushy_errors.SushyError, ValueError, AttributeError, TypeError, KeyError) as err:
        raise BmcError(
            f"Redfish on BMC {address} answered nonsense",
            f"Update the BMC's firmware or restart the BMC, then `seed discover {address}`.",
        ) from err


PLUGIN = Redfish()
