"""Put a claim's host keys into somebody's known_hosts: new ones in, stale ones of them out."""

import base64
import binascii
import hmac
from collections.abc import Collection
from pathlib import Path


def refresh(path: Path, lines: str) -> int:
    """Write `lines` to the end of `path`; no other line of it is for one of their hosts then.

    Comments, @cert-authority and @revoked stay. Returns how many lines were for other keys of them.
    Raises OSError.
    """
    from ipxe.render import write_atomic

    target = path.resolve()  # a symlink stays one
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = lines.splitlines()
    hosts = {host for line in fresh for host in line.split(" ", 1)[0].split(",")}
    before = target.read_text().splitlines() if target.exists() else []
    others = [line for line in before if line not in fresh]
    left = [_without(line, hosts) for line in others]
    text = "".join(f"{line}\n" for line in (*left, *fresh) if line is not None)
    write_atomic(target, text, target.stat().st_mode & 0o777 if target.exists() else 0o600)
    return sum(new != old for new, old in zip(left, others, strict=True))


def _without(line: str, hosts: Collection[str]) -> str | None:
    """The line for whom it is besides these hosts; None for nobody."""
    names, _, key = line.partition(" ")
    if line[:1] in ("", "#", "@") or not key:
        return line
    if names.startswith("|1|"):
        return None if any(_hashed(names, host) for host in hosts) else line
    left = [name for name in names.split(",") if name not in hosts]
    return f"{','.join(left)} {key}" if left else None


def _hashed(names: str, host: str) -> bool:
    """Whether this is the host's name as HashKnownHosts writes it: |1|salt|HMAC-SHA1."""
    try:
        salt, told = (base64.b64decode(part, validate=True) for part in names[3:].split("|"))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.digest(salt, host.encode(), "sha1"), told)
