"""HTTPS to one BMC that may lie or hang: pinned, with an allowance of time and bytes.

Every read of its socket is given what is left of the allowance, so a BMC that drips bytes, headers
or a handshake holds a thread no longer, and one that sends for ever fills no memory. Nothing leads
to another host.
"""

import ssl
import threading
import time
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from provisioning.bmc import host

ANSWER_CAP = 1024 * 1024  # bytes; a whole expanded collection of a large server has 200 kB
TOTAL_CAP = 16 * 1024 * 1024  # bytes of one conversation
MOST_ANSWERS = 600  # of one conversation
ANSWER_SECONDS = 20.0  # for one answer; the slowest known BMCs take 3
REDIRECTS = 3
PIECE = 64 * 1024  # bytes
LOOK_UP_SECONDS = 0.5  # a read that waits looks this often whether it shall end
_LEAST = 0.001  # seconds: 0 would mean "never wait", not "over"


class TooMuch(requests.RequestException):
    """It sent more than a BMC has to tell."""


class TooSlow(requests.RequestException):
    """The conversation's time is over."""


class Stopped(TooSlow):
    """We ended it."""


class Elsewhere(requests.RequestException):
    """It pointed to another host."""


class Allowance:
    """What a conversation, and each answer within it, may still take: seconds and bytes."""

    def __init__(self, seconds: float) -> None:
        self._end = self._answer_end = time.monotonic() + seconds
        self._bytes = self._answer_bytes = self.answers = 0
        self.stopped = False

    def next_answer(self) -> None:
        """One more answer begins. Raises TooSlow or TooMuch where there is no room for it."""
        if self.over:
            raise self.ended()
        self.answers += 1
        if self.answers > MOST_ANSWERS:
            raise TooMuch(f"more than {MOST_ANSWERS} answers")
        self._answer_end = min(self._end, time.monotonic() + ANSWER_SECONDS)
        self._answer_bytes = 0

    def take(self, count: int) -> None:
        """So many bytes came. OSError when they are too many: the socket is read no further."""
        self._bytes += count
        self._answer_bytes += count
        if self.flooded:
            raise OSError("too many bytes")

    def stop(self) -> None:
        """Its time is over now, for a read that waits, too."""
        self.stopped = True

    def ended(self) -> TooSlow:
        return Stopped("we end it") if self.stopped else TooSlow("the conversation's time is over")

    def last_word(self, seconds: float) -> None:
        """The logout may take this long from now, whatever was used up before."""
        self._end = time.monotonic() + seconds
        self._bytes = self.answers = 0
        self.stopped = False

    @property
    def flooded(self) -> bool:
        return self._answer_bytes > ANSWER_CAP or self._bytes > TOTAL_CAP

    @property
    def over(self) -> bool:
        return self.stopped or time.monotonic() >= self._end

    @property
    def seconds(self) -> float:
        """What is left for the answer that is being read."""
        return _LEAST if self.stopped else max(_LEAST, self._answer_end - time.monotonic())


class _Reading(threading.local):
    """The allowance of the answer that this thread reads."""

    allowance: Allowance


_reading = _Reading()


class _Socket(ssl.SSLSocket):
    """Each read waits for what is left, whatever timeout it was given before."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        allowance = _reading.allowance
        while True:
            left = allowance.seconds
            self.settimeout(min(left, LOOK_UP_SECONDS))
            try:
                count = super().recv_into(*args, **kwargs)
            except TimeoutError:
                if left <= LOOK_UP_SECONDS:
                    raise
                continue
            allowance.take(count)
            return count


def _context() -> ssl.SSLContext:
    """Whose certificate it is, is checked by its fingerprint: a CA says nothing about a BMC."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = _Socket
    return context


CONTEXT = _context()  # one for all: each has 50 kB, and hundreds of BMCs are asked at once


class Adapter(HTTPAdapter):
    """Answers of one BMC, read whole before anybody sees them."""

    def __init__(self, fingerprint: str, allowance: Allowance) -> None:
        self._fingerprint, self._allowance = fingerprint, allowance
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(
            *args, assert_fingerprint=self._fingerprint, ssl_context=CONTEXT, **kwargs
        )

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,  # noqa: ANN401
        verify: Any = True,  # noqa: ANN401
        cert: Any = None,  # noqa: ANN401
        proxies: Any = None,  # noqa: ANN401
    ) -> requests.Response:
        """As the base class; a GET over a connection that the BMC had closed is sent once more."""
        self._allowance.next_answer()
        try:
            try:
                return self._send(request, verify)
            except requests.ConnectionError as err:
                again = request.method == "GET" and self._allowance.answers > 1
                if not again or isinstance(err, requests.exceptions.SSLError | requests.Timeout):
                    raise
                return self._send(request, verify)
        except requests.RequestException as err:
            if self._allowance.flooded:
                raise TooMuch("an answer without an end") from err
            if self._allowance.over:
                raise self._allowance.ended() from err
            raise

    def _send(self, request: requests.PreparedRequest, verify: Any) -> requests.Response:  # noqa: ANN401
        _reading.allowance = self._allowance
        answer = super().send(request, stream=True, timeout=self._allowance.seconds, verify=verify)
        body = bytearray()
        try:
            for piece in answer.iter_content(PIECE):
                body += piece  # unpacked: what came over the wire may have been a bomb
                if len(body) > ANSWER_CAP:
                    raise TooMuch(f"an answer of more than {ANSWER_CAP} bytes")
        except requests.RequestException:
            answer.raw.close()
            raise
        answer._content = bytes(body)
        answer.raw.release_conn()
        return answer


class _Nowhere(BaseAdapter):
    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        raise Elsewhere("it points to another host")

    def close(self) -> None:
        pass


def prepare(session: requests.Session, address: str, adapter: Adapter) -> None:
    """Make `session` speak to this BMC only, straight, over a connection that is used again."""
    session.trust_env = False  # no proxy and no .netrc of this machine
    session.max_redirects = REDIRECTS
    session.headers.pop("Connection", None)  # sushy's "close": a handshake for each answer
    session.adapters.clear()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Nowhere())
    session.mount(f"https://{host(address)}/", adapter)
