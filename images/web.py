"""GET from hosts that are allowed, and from nowhere else: each hop is judged before it is taken.

The host is resolved here, all of its addresses are judged, and one of those is connected to. What
redirects is followed to allowed hosts only, never from https to http; a login goes to the one
host it is for, over TLS, at no other hop.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urljoin

import httpx

from provisioning.errors import Forbidden, Invalid
from provisioning.hook_delivery import resolve
from provisioning.hooks import Address
from provisioning.sources import Source, check_allowed, is_literal, split, told

TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
MOST_HOPS: Final = 5
LOOK_SECONDS: Final = 1.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


Look = Callable[[], None]
"""Asked every second while a server is waited for; raises to end that."""


class Broken(Exception):
    """The connection, not the answer: it may be tried again."""


class _Watch:
    """Ends a conversation wherever it is, be it in TLS or in a header, with what `look` raises: the
    time limit of a read begins anew with each byte."""

    def __init__(self, look: Look) -> None:
        self._look, self._lines = look, list[socket.socket]()
        self._over = threading.Event()
        self._why: Exception | None = None

    def traced(self, event: str, told: dict[str, Any]) -> None:
        """What httpcore says of its connections (its extension `trace`)."""
        if event == "connection.connect_tcp.complete":  # its own is no more once TLS begins
            self._lines.append(told["return_value"].get_extra_info("socket").dup())

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception as error:
                self._why = self._why or error
            if self._why:
                for line in self._lines:
                    with suppress(OSError):
                        line.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises what `look` did."""
        thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        thread.start()
        try:
            yield
        except Broken as error:
            raise self._why or error from error
        finally:
            self._over.set()
            thread.join()
            for line in self._lines:
                line.close()
        if self._why:  # without a length, an answer that was cut off looks whole
            raise self._why


@dataclass(frozen=True, slots=True)
class Login:
    """What is told to exactly this authority, over TLS: an Authorization header's value."""

    authority: str
    header: str


@dataclass(frozen=True)
class Web:
    """allowed: HOST or HOST:PORT. refuses: addresses that are never connected to, unless the host
    was allowed as that very address. trust: whose certificates are believed."""

    allowed: tuple[str, ...]
    refuses: Callable[[Address], bool]
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    resolve: Callable[[str, int], Sequence[Address]] = resolve

    @contextmanager
    def get(
        self, url: str, headers: dict[str, str], login: Login | None, look: Look
    ) -> Iterator[httpx.Response]:
        """The answer at the end of all redirects, its body not read yet.

        Raises Forbidden for a host or address that is not allowed, Invalid for a redirect that
        is none, Broken where nobody answers, and what `look` raises.
        """
        source, why, watch = split(url), "", _Watch(look)
        with (
            httpx.Client(verify=self.trust(), timeout=TIMEOUT, trust_env=False) as client,
            watch.watching(),
        ):
            for _ in range(MOST_HOPS + 1):
                check_allowed(source, self.allowed, why)
                with self._hop(client, source, headers, login, watch) as answer:
                    if answer.status_code not in _REDIRECTS:
                        yield answer
                        return
                    source, why = _onward(source, answer), f"{source.authority} sends us on to"
        raise Invalid(
            f"{told(url)} sends us on more than {MOST_HOPS} times", "Give the last URL itself."
        )

    @contextmanager
    def _hop(
        self,
        client: httpx.Client,
        source: Source,
        headers: dict[str, str],
        login: Login | None,
        watch: _Watch,
    ) -> Iterator[httpx.Response]:
        address = str(self._address(source))
        at = f"[{address}]" if ":" in address else address
        sent = headers | {"Host": source.authority, "Accept-Encoding": "identity"}
        if login and source.scheme == "https" and source.authority == login.authority:
            sent["Authorization"] = login.header
        more: dict[str, Any] = {"trace": watch.traced}
        more |= {} if is_literal(source.host) else {"sni_hostname": source.host}
        url = f"{source.scheme}://{at}:{source.port}{source.path}"
        try:
            with client.stream("GET", url, headers=sent, extensions=more) as answer:
                yield answer
        except httpx.HTTPError as error:
            raise Broken(f"{source.authority}: {_why(error)}") from error

    def _address(self, source: Source) -> Address:
        if is_literal(source.host):  # it is on the list as this very address
            return ip_address(source.host)
        try:
            found = self.resolve(source.host, source.port)
        except (OSError, UnicodeError) as error:
            raise Broken(f"{source.host} is not known to the name server") from error
        if not found:
            raise Broken(f"{source.host} has no address")
        if bad := [address for address in found if self.refuses(address)]:
            raise Forbidden(
                f"{source.host} is at {bad[0]}, which is this machine's own or never another's",
                f'If it is meant: allowed_hosts = ["{bad[0]}"] in `[images]` of seed.toml.',
            )
        return found[0]


def _onward(source: Source, answer: httpx.Response) -> Source:
    """Where a redirect leads. Raises Invalid."""
    try:
        target = split(urljoin(source.url, answer.headers.get("location", "")))
    except ValueError as error:
        raise Invalid(
            f"{source.authority} sends us on to what is no URL", "Give the last URL itself."
        ) from error
    if target.scheme == "oci" or (source.scheme == "https" and target.scheme != "https"):
        raise Invalid(
            f"{source.authority} sends us from TLS on to plain {target.scheme}",
            "Give a URL that stays with https.",
        )
    return target


def _why(error: Exception) -> str:
    """A few words, never the URL: there may be a key in its query."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ConnectionRefusedError):
            return "it refused the connection"
        cause = cause.__cause__ or cause.__context__
    late = isinstance(error, httpx.TimeoutException)
    return "it did not answer in time" if late else f"the connection broke: {type(error).__name__}"
