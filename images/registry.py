"""An artifact of an OCI registry that is one disk: which blob it is, and how we are let in.

Distribution specification 1.1 (pull), and the token protocol that registries speak (Bearer). TLS
only. A login goes to its registry's own host; to a token service elsewhere we come as nobody.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from images.web import Broken, Login, Look, Web
from provisioning.errors import Forbidden, Invalid
from provisioning.sources import Source, split

MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
MOST_MANIFEST: Final = 4 << 20  # what registries take themselves
ANSWER_SECONDS: Final = 60.0
"""For a whole manifest or token, however slowly it comes."""
_CHALLENGE: Final = re.compile(r'([a-z]+)="([^"\\]*)"')
_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclass(frozen=True, slots=True)
class Blob:
    """url, and the login for it; sha256 and size as the manifest says."""

    url: str
    login: Login | None
    sha256: str
    size: int


@dataclass(frozen=True)
class Registry:
    """login: authority -> (username, password), where one is kept for exactly this host. alive:
    raises once nobody wants the artifact any more."""

    web: Web
    login: Callable[[str], tuple[str, str] | None]
    alive: Look

    def find(self, source: Source) -> Blob:
        """The one layer of the artifact. Raises SeedError, web.Broken."""
        base = f"https://{source.authority}/v2/{source.path}"
        login, manifest = self._manifest(source, f"{base}/manifests/{source.reference}")
        layers = manifest.get("layers")
        if not isinstance(layers, list) or len(layers) != 1 or not isinstance(layers[0], dict):
            raise Invalid(
                f"{_told(source)} is no disk image: it has "
                f"{len(layers) if isinstance(layers, list) else 'no list of'} layers, and one is "
                "taken, a raw or qcow2 disk as it is",
                "oras push HOST/REPOSITORY:TAG disk.qcow2",
            )
        return self._blob(source, base, login, layers[0])

    def _blob(self, source: Source, base: str, login: Login | None, layer: dict[str, Any]) -> Blob:
        kind, digest = str(layer.get("mediaType", "")), str(layer.get("digest", ""))
        if re.search(r"gzip|zstd|\btar\b", kind):
            raise Invalid(
                f"{_told(source)} holds {kind[:80]}, and a disk is taken as it is, not packed",
                "oras push HOST/REPOSITORY:TAG disk.qcow2",
            )
        found = re.fullmatch(r"sha256:([0-9a-f]{64})", digest)
        if not found:
            raise Invalid(
                f"the layer of {_told(source)} is named by {digest[:80]!r}, and not by a SHA-256",
                "oras push HOST/REPOSITORY:TAG disk.qcow2",
            )
        size = layer.get("size")
        return Blob(f"{base}/blobs/{digest}", login, found[1], size if isinstance(size, int) else 0)

    def _manifest(self, source: Source, url: str) -> tuple[Login | None, dict[str, Any]]:
        login, (status, headers, body) = None, self._get(url, None)
        if status == _UNAUTHORIZED:
            login = self._let_in(source, headers.get("www-authenticate", ""))
            status, headers, body = self._get(url, login)
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            raise Forbidden(
                f"the registry {source.authority} does not let us read {source.path}",
                f"seed registry login {source.authority} --username USER --password-stdin",
            )
        if status != 200:
            raise Invalid(
                f"the registry {source.authority} answered {status} to {source.path}:"
                f"{source.reference}",
                "Look which tags there are, and add the image again.",
            )
        if source.reference.startswith("sha256:"):
            _check_digest(source, body)
        return login, _parsed(source, body)

    def _get(self, url: str, login: Login | None) -> tuple[int, httpx.Headers, bytes]:
        until = time.monotonic() + ANSWER_SECONDS

        def look() -> None:
            self.alive()
            if time.monotonic() > until:
                raise Broken(f"its answer was not whole after {ANSWER_SECONDS:.0f} s")

        with self.web.get(url, {"Accept": ", ".join(MANIFESTS)}, login, look) as answer:
            body = bytearray()
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MOST_MANIFEST:
                    raise Invalid(
                        "the registry's answer is larger than 4 MiB", "seed image intakes"
                    )
            return answer.status_code, answer.headers, bytes(body)

    def _let_in(self, source: Source, challenge: str) -> Login | None:
        """What the registry asks for (RFC 9110, 11.6.1): Basic, or a token of a service."""
        kind, told = challenge.partition(" ")[0].lower(), dict(_CHALLENGE.findall(challenge))
        known = self.login(source.authority)
        basic = _basic(source.authority, *known) if known else None
        if kind == "basic":
            return basic
        if kind != "bearer" or "realm" not in told:
            return None
        realm = split(told["realm"])
        if realm.scheme != "https":
            raise Forbidden(
                f"the registry {source.authority} gives tokens without TLS, at {realm.authority}",
                "Take the image from another registry.",
            )
        query = {"scope": f"repository:{source.path}:pull"}
        if "service" in told:
            query["service"] = told["service"]
        mark = "&" if "?" in realm.path else "?"
        own = basic if realm.authority == source.authority else None
        status, _, body = self._get(f"{realm.url}{mark}{urlencode(query)}", own)
        token = _token(body) if status == 200 else ""
        return Login(source.authority, f"Bearer {token}") if token else None


def _basic(authority: str, username: str, password: str) -> Login:
    text = base64.b64encode(f"{username}:{password}".encode()).decode()
    return Login(authority, f"Basic {text}")


def _token(body: bytes) -> str:
    try:
        told = json.loads(body)
        token = str(told.get("token") or told.get("access_token") or "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return token if re.fullmatch(r"[!-~]{1,16384}", token) else ""


def _check_digest(source: Source, body: bytes) -> None:
    found = hashlib.sha256(body).hexdigest()
    if source.reference != f"sha256:{found}":
        raise Invalid(
            f"the manifest that {source.authority} gives is not the one asked for: its digest is "
            f"sha256:{found}",
            "Ask for the artifact by the digest that its maker states.",
        )


def _parsed(source: Source, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Invalid(f"{_told(source)} has no manifest that can be read", "seed image intakes")
    if found.get("manifests"):
        raise Invalid(
            f"{_told(source)} is an index of several artifacts, and one is taken",
            f"seed image add NAME oci://{source.authority}/{source.path}@sha256:DIGEST",
        )
    return found


def _told(source: Source) -> str:
    return f"oci://{source.authority}/{source.path}"
