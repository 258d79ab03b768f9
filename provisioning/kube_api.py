"""A cluster's Kubernetes API, as far as Seed asks it: with a client certificate, over TLS 1.2+.

The paths and fields are those of Kubernetes 1.34 to 1.36 (kubernetes.io: "Kubernetes API"). Objects
are written by server-side apply, so that what was done before a crash is simply done again.
"""

import asyncio
import json
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx

from provisioning.errors import KubeRefused, KubeUnavailable

Answer = TypeVar("Answer")
Document = dict[str, Any]

LOOK_SECONDS: Final = 10.0
"""All that one look asks, from the first word to the last. An API server that has just started, or
whose disk is slow, takes long for a word, and is no problem yet."""
PART: Final = 0.8
"""Of them, that one word may take: a call that ends by itself hangs up in good order."""
DOOR_SECONDS: Final = 2.0
"""Until nobody is there."""
LARGEST: Final = 64 << 20
"""Bytes of an answer: a Node of a large cluster has some 20 KB, mostly names of images."""
LONGEST: Final = 300
"""Letters of what somebody's cluster says: it goes into rows and onto screens."""
MANAGER: Final = "seed"
"""Whose fields they are, in server-side apply."""
APPLY: Final = "application/apply-patch+yaml"
PODS: Final = "/api/v1/namespaces/kube-system/pods"


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """server: https://VIP:PORT. ca: PEM, of its certificate. certificate, key: PEM, ours.

    doors: address and port of API servers themselves, for a machine that has no way to the VIP.
    """

    server: str
    ca: str
    certificate: str
    key: str = field(repr=False)
    doors: tuple[tuple[str, int], ...] = ()


Transport = Callable[[KubeAccess], httpx.AsyncBaseTransport]


def over_tls(access: KubeAccess) -> httpx.AsyncBaseTransport:
    """The key is never in a file: ssl reads it from memory that has no name."""
    context = ssl.create_default_context(cadata=access.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    memory = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(memory, f"{access.certificate}\n{access.key}".encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    straight = httpx.AsyncHTTPTransport(verify=context, trust_env=False)
    return _ByDoor(access, straight) if access.doors else straight


class _ByDoor(httpx.AsyncBaseTransport):
    """To the VIP; where nobody is heard of there, to the first door that opens. Whoever serves must
    prove that it is the VIP all the same: each API server of a cluster has it in its certificate.
    """

    def __init__(self, access: KubeAccess, straight: httpx.AsyncHTTPTransport) -> None:
        self.access, self.straight = access, straight
        self.door: tuple[str, int] | None = None
        self.vip = httpx.URL(access.server)
        self.chosen = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self.chosen:
            self.door, self.chosen = await self._choose(), True
        if self.door:
            host, port = self.door
            request.url = request.url.copy_with(host=host, port=port)
            request.extensions = {**request.extensions, "sni_hostname": self.vip.host}
        return await self.straight.handle_async_request(request)

    async def aclose(self) -> None:
        await self.straight.aclose()

    async def _choose(self) -> tuple[str, int] | None:
        if await _opens(self.vip.host, self.vip.port or 443) is not None:
            return None
        opened = await asyncio.gather(*(_opens(*door) for door in self.access.doors))
        found = zip(self.access.doors, opened, strict=True)
        return next((door for door, opens in found if opens), None)


async def _opens(host: str, port: int) -> bool | None:
    """None: nobody is heard of; False: somebody refuses."""
    try:
        async with asyncio.timeout(DOOR_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    except OSError:
        return None
    writer.close()
    return True


@dataclass(frozen=True, slots=True)
class KubeApi:
    """One conversation; made by `talk`. Raises KubeUnavailable: it does not answer, or not now;
    KubeRefused: it says no."""

    server: str
    http: httpx.AsyncClient

    async def get(self, path: str, **params: str) -> Document:
        # None: httpx takes the query of a path away where it is given an empty one beside it.
        return _object(self.server, *await self._ask("GET", path, params=params or None))

    async def find(self, path: str) -> Document | None:
        """None: there is no such object."""
        status, body = await self._ask("GET", path)
        return None if status == httpx.codes.NOT_FOUND else _object(self.server, status, body)

    async def text(self, path: str) -> tuple[int, str]:
        """Status and what it said, whatever it was."""
        status, body = await self._ask("GET", path)
        return status, body.decode(errors="replace")

    async def apply(self, path: str, document: Document) -> None:
        """The object at `path` has what `document` says; the rest of it is others'."""
        params = {"fieldManager": MANAGER, "force": "true"}
        status, body = await self._ask(
            "PATCH", path, params=params, content=json.dumps(document),
            headers={"Content-Type": APPLY},
        )  # fmt: skip
        _object(self.server, status, body)

    async def delete(self, path: str) -> None:
        """It is told to go; one that is not there is gone."""
        status, body = await self._ask("DELETE", path)
        if status != httpx.codes.NOT_FOUND:
            _object(self.server, status, body)

    async def _ask(self, method: str, path: str, **more: Any) -> tuple[int, bytes]:
        try:
            async with self.http.stream(method, path, **more) as answer:
                body = bytearray()
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > LARGEST:
                        raise _silent(self.server, f"its answer is larger than {LARGEST} bytes")
        except (httpx.HTTPError, ssl.SSLError, OSError) as problem:
            raise _silent(self.server, _why(problem)) from problem
        return answer.status_code, bytes(body)


def talk(
    transport: Transport,
    access: KubeAccess,
    work: Callable[[KubeApi], Awaitable[Answer]],
    seconds: float = LOOK_SECONDS,
) -> Answer:
    """What `work` answers, or KubeUnavailable after `seconds`, however slowly it is answered."""
    return asyncio.run(_talk(transport, access, work, seconds))


async def _talk(
    transport: Transport,
    access: KubeAccess,
    work: Callable[[KubeApi], Awaitable[Answer]],
    seconds: float,
) -> Answer:
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(
                transport=transport(access), base_url=access.server, timeout=PART * seconds,
                trust_env=False, headers={"User-Agent": "seed", "Accept": "application/json"},
            ) as http,
        ):  # fmt: skip
            return await work(KubeApi(access.server, http))
    except TimeoutError as problem:
        raise _silent(access.server, f"nothing whole within {seconds:g} s") from problem
    except (ssl.SSLError, ValueError, OSError) as problem:  # of a certificate that is none
        raise _silent(access.server, _why(problem)) from problem


# --- a look ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """why: the reason and message of its condition Ready; empty: it is."""

    name: str
    provider_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """unready: what /readyz lacks; empty: nothing. pods: of kube-system, not running, and why."""

    unready: str
    nodes: tuple[NodeSeen, ...]
    pods: tuple[str, ...]


async def look(api: KubeApi) -> Seen:
    """From the API server's own cache (resourceVersion=0): a look costs etcd nothing. One after the
    other, over one connection."""
    status, said = await api.text("/readyz")
    nodes = await api.get("/api/v1/nodes", resourceVersion="0")
    pods = await api.get(PODS, resourceVersion="0")
    return Seen(
        "" if status == httpx.codes.OK else _lacks(status, said),
        tuple(node_of(item) for item in items(nodes)),
        tuple(filter(None, (_pod(item) for item in items(pods)))),
    )


def items(found: Document) -> list[Document]:
    listed = found.get("items")
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def part(document: Document, *keys: str) -> Any:  # noqa: ANN401
    """What is at that place, or None: an API server that is not one may say anything."""
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def name_of(document: Document) -> str:
    return plain(str(part(document, "metadata", "name") or "?"))


def listed(document: Document, *keys: str) -> list[Document]:
    found = part(document, *keys)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def plain(text: str) -> str:
    """One short line of letters."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST]).split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 3]}..."


def condition(document: Document, name: str) -> tuple[bool, str]:
    """Of its status: whether it is "True", and the reason and message where it is not."""
    for one in listed(document, "status", "conditions"):
        if one.get("type") == name:
            told = [str(one[key]) for key in ("reason", "message") if one.get(key)]
            return one.get("status") == "True", plain(": ".join(told) or f"{name} is not True")
    return False, f"it says nothing of {name} yet"


def waiting(pod: Document) -> str:
    """Why it does not run, as its containers or the scheduler say; empty: nobody says."""
    for key in ("initContainerStatuses", "containerStatuses"):
        for one in listed(pod, "status", key):
            for state in ("waiting", "terminated"):
                reason = part(one, "state", state, "reason")
                if reason and reason not in ("ContainerCreating", "PodInitializing", "Completed"):
                    message = part(one, "state", state, "message")
                    return plain(": ".join(str(word) for word in (reason, message) if word))
    scheduled, why = condition(pod, "PodScheduled")
    return "" if scheduled else why


def node_of(document: Document) -> NodeSeen:
    ready, why = condition(document, "Ready")
    provider = str(part(document, "spec", "providerID") or "")
    return NodeSeen(name_of(document), provider, "" if ready else why)


def _pod(document: Document) -> str:
    phase = part(document, "status", "phase")
    if phase == "Succeeded" or condition(document, "Ready")[0]:
        return ""
    return f"{name_of(document)}: {waiting(document) or plain(str(phase))}"


def _lacks(status: int, said: str) -> str:
    """Of /readyz: its lines are "[+]ping ok" and "[-]etcd failed: reason withheld"."""
    failed: Iterable[str] = re.findall(r"^\[-\](\S{1,60})", said, re.M)
    return ", ".join(failed) or f"it answers {status}"


# --- what goes wrong ------------------------------------------------------------------------------


def _object(server: str, status: int, body: bytes) -> Document:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    told: Document = found if isinstance(found, dict) else {}
    if status < 300 and isinstance(found, dict):
        return told
    said = plain(str(told.get("message") or f"HTTP {status}"))
    if status < 300 or status == 429 or status >= 500:
        raise _silent(server, said)
    raise KubeRefused(
        f"the Kubernetes API says no: {said}",
        "Look at it yourself: `seed cluster kubeconfig NAME`, then `kubectl get --raw /readyz`.",
        status,
    )


def _silent(server: str, why: str) -> KubeUnavailable:
    """Without its address: claimers are told no sentence that has one."""
    host = httpx.URL(server).host
    return KubeUnavailable(
        f"the Kubernetes API does not answer: {why.replace(host, 'its VIP')}",
        "Do its control planes run, and does the seed reach its VIP? `seed cluster show NAME`.",
    )


def _why(problem: BaseException) -> str:
    if isinstance(problem, httpx.TimeoutException):
        return "it takes too long"
    return plain(str(problem)) or type(problem).__name__
