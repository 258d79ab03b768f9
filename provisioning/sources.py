"""Where a disk image may come from, and what proves that it is the one asked for.

The API judges this when somebody asks, and seed-images again before it connects.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from provisioning.errors import Forbidden, Invalid

# A name or an address, a port, a path with a query: no user, fragment, space or control.
_HOST: Final = (
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_URL: Final = re.compile(rf"(?P<scheme>https?)://{_HOST}(?P<path>[/?][!\"$-\[\]-~]*)?")
# Distribution specification 1.1: names of repositories, tags and digests.
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_OCI: Final = re.compile(
    rf"oci://{_HOST}/(?P<repo>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@sha256:(?P<digest>[0-9a-f]{64}))?"
)
_PORTS: Final = {"https": 443, "http": 80, "oci": 443}


@dataclass(frozen=True, slots=True)
class Source:
    """scheme: https, http or oci. host: without brackets. path: with its query; of oci the
    repository. reference: of oci the tag, or sha256:... of its manifest."""

    scheme: str
    host: str
    port: int
    path: str
    reference: str = ""

    @property
    def authority(self) -> str:
        """HOST or HOST:PORT, as a URL and an allow-list write it."""
        named = f"[{self.host}]" if ":" in self.host else self.host
        return named if self.port == _PORTS[self.scheme] else f"{named}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def told(source: str) -> str:
    """A source as it may be told: there may be a key in a URL's query."""
    return source.partition("?")[0]


def split(text: str) -> Source:
    """What a URL says. Raises Invalid."""
    if text.startswith("file:"):
        raise Invalid(
            "an image is not taken from a file:// URL: whoever asks would read files of this "
            "machine",
            "seed image add NAME FILE --sha256 DIGEST",
        )
    found = (_OCI if text.startswith("oci://") else _URL).fullmatch(text)
    scheme = text.partition(":")[0]
    port = int(found["port"] or _PORTS[scheme]) if found else 0
    if found is None or len(text) > 2048 or not 0 < port < 65536:
        raise Invalid(
            "an image comes from https://HOST/PATH, http://HOST/PATH or oci://HOST/REPOSITORY:TAG, "
            "without user, fragment, space or control character",
            "seed image add NAME https://HOST/disk.qcow2 --sha256 DIGEST",
        )
    host = found["host"].strip("[]").lower()
    _check_host(host)
    if scheme != "oci":
        path = found["path"] or "/"
        return Source(scheme, host, port, path if path[0] == "/" else f"/{path}")
    reference = f"sha256:{found['digest']}" if found["digest"] else found["tag"] or "latest"
    return Source("oci", host, port, found["repo"], reference)


def _check_host(host: str) -> None:
    """Raises Invalid for what only looks like an address: resolvers read 0x7f.1, too."""
    if is_literal(host):
        return
    if ":" in host or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]):
        raise Invalid(f"{host} is no address and no name", "Write the address as 192.0.2.1.")


def is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def check_allowed(source: Source, allowed: Collection[str], why: str = "") -> None:
    """Raises Forbidden for a host that is not on the list, with the line that would put it there.

    An entry without a port means the usual ones, 443 and 80. why: how we came there.
    """
    listed = {entry.lower() for entry in allowed}
    if source.authority in listed:
        return
    line = f'allowed_hosts = ["{source.authority}"]'
    now = f"only {', '.join(sorted(listed))}" if listed else "no host at all"
    raise Forbidden(
        f"images are fetched from {now}, and {why or 'this one is at'} {source.authority}",
        f"Add it to `[images]` in seed.toml: `{line}`; then `seed down` and `seed up`.",
    )


def digest(text: str) -> str:
    """A SHA-256, hex, in lower case. Raises Invalid with what was given instead."""
    given = text.strip().lower().removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-f]{64}", given):
        return given
    remedy = "sha256sum FILE; compare it with its maker's list"
    if "://" in given:
        raise Invalid(
            "a digest is given as itself, not as a URL: whoever can change the image there can "
            "change its checksum, too",
            remedy,
        )
    known = {32: "an MD5", 40: "a SHA-1", 128: "a SHA-512"}
    if re.fullmatch(r"[0-9a-f]+", given) and len(given) in known:
        raise Invalid(f"this is {known[len(given)]}, and only a SHA-256 is taken", remedy)
    raise Invalid(f"{given[:80]!r} is no SHA-256: 64 hex digits", remedy)
