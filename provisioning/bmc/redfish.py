"""Redfish (DSP0266) by sushy, over TLS pinned to the certificate seen before the first login."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
import structlog
import sushy
from pydantic import SecretStr
from sushy import exceptions as sushy_errors
from sushy.auth import SessionAuth
from sushy.connector import Connector

from provisioning.bmc import (
    Access,
    Contact,
    Identity,
    Knock,
    Lengths,
    Shout,
    Survey,
    _accounts,
    _certificates,
    host,
)
from provisioning.bmc import _redfish_survey as reader
from provisioning.bmc._certificate import findings
from provisioning.bmc._redfish_probe import PORT, REDFISH_URN, SEARCH, certificate_of_redfish
from provisioning.bmc._redfish_tree import Answer, Tree, Untold, path_of
from provisioning.bmc._redfish_wire import (
    Adapter,
    Allowance,
    Elsewhere,
    Stopped,
    TooMuch,
    TooSlow,
    prepare,
)
from provisioning.errors import BmcError, BmcLoginRefused, BmcRefused, BmcUnreachable, HungUp
from provisioning.lenient import Doc, at, doc

log = structlog.get_logger()

LOGOUT_SECONDS = 5.0
LIES = (TooMuch, Elsewhere, requests.TooManyRedirects)
FATAL = (TooSlow, *LIES)
LOST = (sushy_errors.ConnectionError, requests.ConnectionError, requests.Timeout)
NONSENSE = (
    sushy_errors.SushyError, ValueError, AttributeError, TypeError, KeyError, RecursionError,
)  # fmt: skip


class Redfish:
    name = "redfish"
    driver = "redfish"
    at_once = 256  # threads that mostly wait

    knock: Knock | None = Knock(PORT)
    shout: Shout | None = Shout("239.255.255.250", 1900, SEARCH, lambda data: REDFISH_URN in data)

    def __init__(self) -> None:
        self._going: set[Allowance] = set()  # of conversations that may be ended

    def hang_up(self) -> None:
        for allowance in tuple(self._going):
            allowance.stop()

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
                der = await certificate_of_redfish(address, line)
                if der:
                    return Contact(
                        address=address,
                        protocol=self.name,
                        fingerprint=hashlib.sha256(der).hexdigest(),
                        certificate=ssl.DER_cert_to_PEM_cert(der),
                    )
        return None

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        with _conversation(contact, access, timeout, self._going) as (tree, root, _):
            return reader.identity(tree, reader.server(tree, root, contact.address))

    def survey(self, contact: Contact, access: Access, timeout: float) -> Survey:
        with _conversation(contact, access, timeout, self._going) as (tree, root, _):
            tree.expand = _expand(root)
            found = reader.server(tree, root, contact.address)
            who = reader.identity(tree, found)
            seen = reader.inventory(tree, found, who)
            can = reader.abilities(tree, root, found)
        weak = findings(contact.certificate, contact.address)
        return Survey(who, seen, can, (*weak, *(f"no answer to {path}" for path in tree.untold)))

    def locate(self, contact: Contact, access: Access, on: bool, timeout: float) -> None:
        with _conversation(contact, access, timeout, self._going) as (tree, root, conn):
            path, lit, dark = reader.led_place(tree, root, contact.address)
            try:
                conn.patch(path, data=lit if on else dark)
            except sushy_errors.HTTPError as err:
                raise BmcError(
                    f"BMC {contact.address} did not switch its locate LED ({err.status_code})",
                    "Give a login that may: `seed discover ADDRESS --username U --password-stdin`.",
                ) from err

    def maker(self, contact: Contact, timeout: float) -> str:
        url = f"https://{host(contact.address)}/redfish/v1/"
        with _translated(contact.address), requests.Session() as session:
            adapter = Adapter(contact.fingerprint, Allowance(timeout))
            prepare(session, contact.address, adapter)
            root = doc(session.get(url, verify=False, timeout=timeout).json())
            told = [root.get("Vendor"), root.get("Product"), *doc(root.get("Oem"))]
            return " ".join(t for t in told if isinstance(t, str))

    def check_login(self, contact: Contact, access: Access, timeout: float) -> None:
        with _conversation(contact, access, timeout) as (_, _, web):
            # Not the service root: DSP0266 lets everybody read that one.
            web.get("/redfish/v1/Systems")

    def password_lengths(self, contact: Contact, access: Access, timeout: float) -> Lengths:
        with (
            _conversation(contact, access, timeout) as (_, _, web),
            _refusing(contact.address, "has no AccountService"),
        ):
            return _accounts.lengths(web)

    def set_password(
        self, contact: Contact, access: Access, new: SecretStr, timeout: float
    ) -> None:
        with (
            _conversation(contact, access, timeout) as (_, _, web),
            _refusing(contact.address, "refused the new password"),
        ):
            _accounts.set_password(web, access.username, new)

    def request_csr(self, contact: Contact, access: Access, timeout: float) -> str:
        with (
            _conversation(contact, access, timeout) as (_, _, web),
            _refusing(contact.address, "makes no certificate"),
        ):
            return _certificates.request_csr(web, contact.address)

    def install_certificate(
        self, contact: Contact, access: Access, pem: str, timeout: float
    ) -> None:
        with (
            _conversation(contact, access, timeout) as (_, _, web),
            _refusing(contact.address, "keeps its certificate"),
        ):
            _certificates.install(web, pem)

    def driver_info(
        self, contact: Contact, identity: Identity, access: Access, ca_path: str
    ) -> dict[str, Any]:
        return {
            "redfish_address": f"https://{host(contact.address)}",
            "redfish_system_id": identity.system_id,
            "redfish_username": access.username,
            "redfish_password": access.password.get_secret_value(),
            "redfish_verify_ca": ca_path or False,
        }


class _OneLogin(SessionAuth):  # type: ignore[misc]
    """One login, and it is never repeated: a session, or basic authentication where it has none.

    sushy's own SessionOrBasicAuth sends a refused login a second time, and logs in again when a
    single resource is forbidden; both count as attempts at a BMC that locks accounts.
    """

    def _do_authenticate(self) -> None:
        connector, root = self._connector, self._root_resource
        connector.set_auth(None)
        if not path_of(at(root.json, "Links", "Sessions")):
            connector.set_http_basic_auth(self._username, self._password)
            return
        try:
            super()._do_authenticate()
        except (sushy_errors.ServerSideError, sushy_errors.ResourceNotFoundError):
            # Its table of sessions is full, or it has none after all.
            connector.set_http_basic_auth(self._username, self._password)
            return
        # Some name themselves by a host name that is not ours to follow.
        place = urlsplit(str(self.get_session_resource_id() or "")).path
        self._session_resource_id: str | None = place or None


@contextmanager
def _conversation(
    contact: Contact, access: Access, timeout: float, going: set[Allowance] | None = None
) -> Iterator[tuple[Tree, Doc, Connector]]:
    """A login, a reader of its resources, and the logout, whatever happens in between.

    going: where its allowance is while somebody may stop it.
    """
    if not contact.fingerprint:  # an empty one would pin nothing
        raise BmcError(
            f"no certificate of BMC {contact.address} is known",
            f"`seed discover {contact.address}` finds it.",
        )
    url, logout = f"https://{host(contact.address)}", min(LOGOUT_SECONDS, timeout / 4)
    allowance = Allowance(timeout - logout)
    connector = Connector(url, verify=False, server_side_retries=1)  # 1: no second try of its own
    prepare(connector._session, contact.address, Adapter(contact.fingerprint, allowance))
    auth = _OneLogin(access.username, access.password.get_secret_value())
    going = set() if going is None else going
    with _translated(contact.address):
        try:
            root = sushy.Sushy(url, auth=auth, connector=connector)
            going.add(allowance)  # not before: a login that is cut off leaves a session
            yield Tree(_Asker(connector)), doc(root.json), connector
        finally:
            going.discard(allowance)
            allowance.last_word(logout)
            _log_out(auth, connector, contact.address)


def _log_out(auth: _OneLogin, connector: Connector, address: str) -> None:
    try:
        auth.close()
    except (sushy_errors.SushyError, requests.RequestException) as err:
        log.warning("bmc.session-left", address=address, error=type(err).__name__)
    finally:
        connector.close()


class _Asker:
    """GETs of one conversation. The first answer proves the login; later ones can be done without.

    One that hangs or hangs up is passed over, a second one in a row ends the conversation.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._proven = self._failed = False

    def __call__(self, path: str) -> Answer:
        try:
            answer = self._connector.get(path)
            self._proven, self._failed = True, False
            return Answer(answer.json(), answer.headers.get("Allow", ""))
        except sushy_errors.HTTPError as err:
            if isinstance(err, sushy_errors.AccessError) and not self._proven:
                raise
            if err.status_code == 401:
                raise sushy_errors.ConnectionError(url=path, error="the session ended") from err
            raise Untold(str(err.status_code), silent=err.status_code < 500) from err
        except sushy_errors.ConnectionError as err:
            if self._failed or not self._proven or isinstance(err.__context__, FATAL):
                raise
            self._failed = True
            raise Untold("it hung up") from err
        except (ValueError, RecursionError) as err:
            raise Untold("nonsense") from err


def _expand(root: Doc) -> str:
    """The query that gives a collection's members with it, where the BMC says it knows one."""
    known = doc(at(root, "ProtocolFeaturesSupported", "ExpandQuery"))
    sign = "." if known.get("NoLinks") is True else "*" if known.get("ExpandAll") is True else ""
    if not sign:
        return ""
    return f"$expand={sign}($levels=1)" if known.get("Levels") is True else f"$expand={sign}"


@contextmanager
def _refusing(address: str, what: str) -> Iterator[None]:
    """It understood and said no (4xx, but 401 is about the login): nothing changed."""
    try:
        yield
    except KeyError as err:  # what it would take is not among what it shows
        raise BmcRefused(
            f"the BMC {address} {what}: it has no {err}",
            "Update the BMC's firmware, or use the vendor's tool.",
        ) from err
    except sushy_errors.HTTPError as err:
        if err.status_code == 401 or err.status_code >= 500:
            raise
        raise BmcRefused(
            f"the BMC {address} {what} (HTTP {err.status_code})",
            "Change it with the vendor's tool, then give it: "
            f"`seed discover {address} --username U --password-stdin`.",
        ) from err


@contextmanager
def _translated(address: str) -> Iterator[None]:
    try:
        yield
    except sushy_errors.AccessError as err:
        raise BmcLoginRefused(
            f"the BMC {address} refused the login",
            f"Give the right one: `seed discover {address} --username U --password-stdin`.",
        ) from err
    except LOST as err:
        if isinstance(err.__context__, Stopped):
            raise HungUp(address) from err
        if isinstance(err.__context__, LIES):
            raise _nonsense(address) from err
        raise BmcUnreachable(
            f"Redfish on BMC {address} did not answer, or its certificate changed",
            f"Check cable and VLAN of the BMC port (TCP 443), then `seed discover {address}`.",
        ) from err
    except NONSENSE as err:
        raise _nonsense(address) from err


def _nonsense(address: str) -> BmcError:
    return BmcError(
        f"Redfish on BMC {address} answered nonsense",
        f"Update the BMC's firmware or restart the BMC, then `seed discover {address}`.",
    )


PLUGIN = Redfish()
