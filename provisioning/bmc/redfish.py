"""Redfish (DSP0266) by sushy, over TLS pinned to the certificate seen before the first login."""

import asyncio
import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import requests
import sushy
from requests.adapters import HTTPAdapter
from sushy import exceptions as sushy_errors
from sushy.auth import BasicAuth
from sushy.connector import Connector

from provisioning.bmc import Access, Contact, Identity
from provisioning.errors import BmcError, BmcLoginRefused, BmcUnreachable

ANSWER_CAP = 256 * 1024  # bytes of a service root; a lying BMC could send for ever


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

    async def probe(self, address: str, timeout: float) -> Contact | None:
        try:
            async with asyncio.timeout(timeout):
                der = await _certificate(address)
                if not await _is_redfish(address, der):
                    return None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return Contact(
            address=address,
            protocol=self.name,
            fingerprint=hashlib.sha256(der).hexdigest(),
            certificate=ssl.DER_cert_to_PEM_cert(der),
        )

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
            "redfish_address": f"https://{contact.address}",
            "redfish_system_id": identity.system_id,
            "redfish_username": access.username,
            "redfish_password": access.password.get_secret_value(),
            "redfish_verify_ca": ca_path,
        }


async def _certificate(address: str) -> bytes:
    """The certificate it shows, DER. BMCs sign their own, and nothing secret is sent here."""
    _reader, writer = await asyncio.open_connection(address, 443, ssl=_anybody())
    try:
        return bytes(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.transport.abort()


def _anybody() -> ssl.SSLContext:
    # Not create_default_context(): it loads the machine's CAs, 20 ms for each address of a sweep.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _is_redfish(address: str, der: bytes) -> bool:
    pinned = aiohttp.Fingerprint(hashlib.sha256(der).digest())
    url = f"https://{address}/redfish/v1/"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, ssl=pinned, allow_redirects=False) as answer,
    ):
        body = await answer.content.read(ANSWER_CAP)
        return answer.status == 200 and b'"RedfishVersion"' in body


def _login(contact: Contact, access: Access, timeout: float) -> Any:  # noqa: ANN401
    if not contact.fingerprint:  # an empty one would pin nothing
        raise BmcError(
            f"no certificate of BMC {contact.address} is known",
            f"`seed discover {contact.address}` finds it.",
        )
    url = f"https://{contact.address}"
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
