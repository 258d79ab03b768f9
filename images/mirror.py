"""Where Debian packages come from: a setting, or what this machine itself uses.

Formats: sources.list(5), one-line style (*.list) and deb822 style (*.sources).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from images.bootstrap import COMPONENTS, SUITE
from provisioning.errors import HostError, Invalid

APT_DIR = Path("/etc/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Of debian-archive-keyring: whatever the mirror, only Debian's signature is believed."""

# Only Debian's own archive has these; other vendors call theirs stable, nodistro, name-main ...
RELEASE = re.compile(
    r"^(bookworm|trixie|forky|duke|sid|stable|testing|unstable)(?P<pocket>[-/].*)?$"
)
SECURITY = ("-security", "/updates")


@dataclass(frozen=True, slots=True)
class Entry:
    """One repository as apt knows it. `uri` has no slash at its end."""

    uri: str
    suite: str
    components: tuple[str, ...]


def sources(setting: str, apt_dir: Path = APT_DIR) -> tuple[str, ...]:
    """apt source lines to build from.

    setting: the mirror's base address, or "": the first one in this machine's apt sources, with
    its updates and security archive. Raises Invalid for an address that is none, HostError if
    this machine's sources name no mirror of Debian.
    """
    if setting:
        return _lines(_checked(setting), "")
    entries = [entry for entry in read(apt_dir) if _is_debian(entry)]
    main = next((e.uri for e in entries if not _is_security(e) and not _pocket(e)), "")
    if not main:
        raise HostError(
            f"no Debian mirror is named in {apt_dir}/sources.list or sources.list.d",
            'set debian_mirror = "http://<mirror>/debian" in seed.toml',
        )
    return _lines(main, next((e.uri for e in entries if _is_security(e)), ""))


def of_suite(lines: tuple[str, ...], suite: str) -> tuple[str, ...]:
    """The lines of `sources`, for another Debian release."""
    return tuple(re.sub(rf" {SUITE}((-[a-z]+)?) ", rf" {suite}\1 ", line) for line in lines)


def read(apt_dir: Path) -> list[Entry]:
    """All binary repositories that apt would use, in the order of the files."""
    parts = sorted((apt_dir / "sources.list.d").glob("*"))
    entries: list[Entry] = []
    for path in [apt_dir / "sources.list", *parts]:
        if path.suffix == ".list" and path.is_file():
            entries += parse_lines(path.read_text(errors="replace"))
        elif path.suffix == ".sources" and path.is_file():
            entries += parse_deb822(path.read_text(errors="replace"))
    return entries


def parse_lines(text: str) -> list[Entry]:
    """One-line style: deb [options] uri suite component ..."""
    entries = []
    for line in text.splitlines():
        words = re.sub(r"\[[^\]]*\]", " ", line.split("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            entries.append(Entry(words[1].rstrip("/"), words[2], tuple(words[3:])))
    return entries


def parse_deb822(text: str) -> list[Entry]:
    """deb822 style: stanzas of fields; a field may go on in indented lines."""
    return [entry for stanza in _stanzas(text) for entry in _entries(stanza)]


def _stanzas(text: str) -> Iterator[dict[str, list[str]]]:
    fields: dict[str, list[str]] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[0] in " \t":
            fields.setdefault(name, []).extend(line.split())
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.split()
    # the empty line added above has ended the last stanza


def _entries(stanza: dict[str, list[str]]) -> Iterator[Entry]:
    enabled = stanza.get("enabled", ["yes"])[:1] not in (["no"], ["false"], ["0"])
    if not enabled or "deb" not in stanza.get("types", []):
        return
    for uri in stanza.get("uris", []):
        for suite in stanza.get("suites", []):
            yield Entry(uri.rstrip("/"), suite, tuple(stanza.get("components", [])))


def _is_debian(entry: Entry) -> bool:
    usable = _scheme(entry.uri) in ("http", "https")
    return usable and "main" in entry.components and RELEASE.match(entry.suite) is not None


def _scheme(uri: str) -> str:
    """Scheme of a whole address, "" for anything else."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # half an IPv6 address
        return ""
    return parts.scheme if (parts.netloc or parts.path) and not re.search(r"\s", uri) else ""


def _pocket(entry: Entry) -> str:
    found = RELEASE.match(entry.suite)
    return (found["pocket"] or "") if found else ""


def _is_security(entry: Entry) -> bool:
    return _pocket(entry) in SECURITY


def _checked(setting: str) -> str:
    if _scheme(setting) not in ("http", "https", "file", "copy"):
        raise Invalid(
            f"debian_mirror {setting!r} is not an address",
            'set debian_mirror = "http://<mirror>/debian" in seed.toml',
        )
    return setting.rstrip("/")


def _lines(main: str, security: str) -> tuple[str, ...]:
    archives = [(main, SUITE), (main, f"{SUITE}-updates")]
    archives += [(security, f"{SUITE}-security")] if security else []
    return tuple(f"deb [signed-by={KEYRING}] {uri} {suite} {COMPONENTS}" for uri, suite in archives)
