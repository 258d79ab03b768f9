"""User-data: is it what it says, would cloud-init do what its writer means, is a secret in it?

cloud-init (25.1.4: cloudinit/user_data.py, handlers/__init__.py) looks at how a text begins. What
it does not know it ignores, with a warning in a log of a server that nobody can log in to.
What is wrong with a value is told without the value: it may be a password.
"""

import email
import email.message
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache, lru_cache
from typing import Any, Final

import jinja2
import jsonschema_rs
import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from provisioning.errors import Invalid
from provisioning.schemas import CLOUD_CONFIG

LARGEST: Final = 16 * 1024 * 1024
"""Bytes that anything packed may come to: CVE-2026-115638."""
READ: Final = 1024 * 1024
"""Characters that are read as YAML, list or MIME, all together, or a quarter of it of templates:
Python does it, at about half a megabyte a second."""
PARTS, DEPTH, NODES, TOLD = 100, 40, 20_000, 8
_KINDS: Final = {  # longest first, as cloud-init looks
    "#cloud-config-archive": "archive",
    "#cloud-config-jsonp": "jsonp",
    "## template: jinja": "jinja",
    "#cloud-boothook": "script",
    "#include-once": "include",
    "#part-handler": "script",
    "#cloud-config": "config",
    "#include": "include",
    "#!": "script",
}
_TYPES: Final = {
    "text/cloud-config": "config",
    "text/cloud-config-archive": "archive",
    "text/cloud-config-jsonp": "jsonp",
    "text/jinja2": "jinja",
    "text/x-shellscript": "script",
    "text/x-shellscript-per-boot": "script",
    "text/x-shellscript-per-instance": "script",
    "text/x-shellscript-per-once": "script",
    "text/cloud-boothook": "script",
    "text/part-handler": "script",
    "text/x-include-url": "include",
    "text/x-include-once-url": "include",
}
_EFFORT: Final = {"script": 0, "jinja": 4}
_GUESSED = ("text/plain", "text/x-not-multipart")
_PACKED = re.compile(r"application/(x-)?(gzip|gunzip|compress)(ped|ed|-compressed)?")
_GZIP = b"\x1f\x8b"
_SECRETS: Final = {
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----",
    "an age secret key": r"AGE-SECRET-KEY-1[0-9A-Z]{20}",
    "a Docker Swarm join token": r"SWMTKN-1-[0-9a-z]{30,}-[0-9a-z]{20,}",
    "a Kubernetes bootstrap token": r"(?i:token)\W{1,12}[a-z0-9]{6}\.[a-z0-9]{16}\b",
    "an access token of GitHub": r"\bgh[pousr]_[A-Za-z0-9]{36}",
    "a secret key of AWS": r"(?i:aws_secret_access_key)\W{1,5}[A-Za-z0-9/+]{40}",
}
_PASSWORDS = re.compile(
    r"(?m)^[ \t]*(?:-[ \t]*)?(passwd|hashed_passwd|plain_text_passwd|password|chpasswd)[ \t]*:"
)
SHORTER: Final = "let a script fetch what is large"
PUT_IT: Final = "Put it into `secret_files` of the claim: they reach the node once, and no drive."


def check(text: str) -> None:
    """Raises Invalid for user-data that is not what it says, or has a secret in it."""
    found = faults(text)
    if found:
        raise Invalid(
            "user_data: " + "; ".join(found[:TOLD]),
            "See which kinds there are: docs/node-data.md."
            if not any("is in it" in f for f in found)
            else PUT_IT,
        )


def faults(text: str | bytes) -> list[str]:
    """Why cloud-init would not do what is meant, or what must not be in it, a sentence each."""
    return list(_faults(text)) if text else []


@lru_cache(maxsize=4)  # the nodes of a claim share one
def _faults(text: str | bytes) -> tuple[str, ...]:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        return tuple(dict.fromkeys(_Reading().of(raw)))
    except _Bad as bad:
        return (str(bad),)


def warnings(text: str) -> list[str]:
    """What may be meant so, but is worth a look."""
    found = sorted({m.group(1) for m in _PASSWORDS.finditer(text)})
    return [
        f"it sets passwords ({', '.join(found)}): whoever reads the drive can try to guess them"
        for _ in found[:1]
    ]


def secrets_in(text: str) -> list[str]:
    """What is recognised for a secret, by its name."""
    return [what for what, pattern in _SECRETS.items() if re.search(pattern, text)]


def inflated(raw: bytes, cap: int = LARGEST) -> bytes:
    """What gzip packed, at most `cap` bytes. Raises ValueError beyond, or where it is no gzip."""
    found = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            while chunk := packed.read(1024 * 1024):
                found.write(chunk)
                if found.tell() > cap:
                    raise _Bad(f"it unpacks to more than {cap // 2**20} MiB")
    except (OSError, EOFError, zlib.error) as problem:
        raise _Bad("it begins like gzip, and is none") from problem
    return found.getvalue()


class _Bad(ValueError):
    """Nothing more can be said about this text."""


class _Reading:
    """One text with all that is in it: the limits count over the whole."""

    def __init__(self) -> None:
        self.parts, self.bytes, self.read = 0, 0, 0

    def of(self, raw: bytes, kind: str = "", deep: int = 0) -> Iterator[str]:
        self.parts += 1
        if self.parts > PARTS or deep > 4:
            raise _Bad(f"it has more than {PARTS} parts, or parts in parts in parts")
        if raw.startswith(_GZIP):
            raw = inflated(raw, LARGEST - self.bytes)
            self.bytes += len(raw)
        text = _text(raw)
        for what in secrets_in(text):
            yield f"{what} is in it"
        if not kind and re.search(r"mime-version:", text[:4096], re.IGNORECASE):
            kind = "mime"
        yield from self._as(kind or _kind(text), text, deep)

    def _as(self, kind: str, text: str, deep: int) -> Iterator[str]:
        self.read += len(text) * _EFFORT.get(kind, 1)
        if self.read > READ:
            raise _Bad(f"more than {READ // 2**20} MiB of it would have to be read: {SHORTER}")
        if kind == "mime":
            yield from self._mime(text, deep)
        elif kind == "config":
            yield from _config(text)
        elif kind == "archive":
            yield from self._archive(text, deep)
        elif kind == "jinja":
            yield from self._jinja(text)
        elif kind == "include":
            yield from _include(text)
        elif kind == "jsonp":
            yield from _wrong_list(_loaded(text), "a list of JSON patches")

    def _jinja(self, text: str) -> Iterator[str]:
        """What it comes to is known on the node only; what it will be is not."""
        _first, _, rest = text.lstrip().partition("\n")
        if _kind(rest) == "jinja":
            raise _Bad("a jinja template of a jinja template")
        try:
            jinja2.Environment(autoescape=False).parse(rest)  # noqa: S701 - parsed, never run
        except jinja2.TemplateSyntaxError as problem:
            yield f"its jinja template is broken in line {problem.lineno + 1}"
        except RecursionError:
            yield "its jinja template nests too deep"

    def _archive(self, text: str, deep: int) -> Iterator[str]:
        entries = _loaded(text)
        yield from _wrong_list(entries, "a list of parts")
        for number, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, str):
                entry = {"content": entry}
            if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
                yield f"part {number} of the archive has no content"
                continue
            told = entry.get("type", "")
            kind = _kind_of_type(told) if isinstance(told, str) and told else ""
            yield from self.of(entry["content"].encode(), kind, deep + 1)

    def _mime(self, text: str, deep: int) -> Iterator[str]:
        try:
            message = email.message_from_string(text)
            leaves = [part for part in message.walk() if not part.is_multipart()]
        except RecursionError as problem:
            raise _Bad("its MIME parts nest too deep") from problem
        if message.get_content_maintype() == "multipart" and not message.is_multipart():
            raise _Bad("its MIME parts cannot be found: is the boundary right?")
        for part in leaves[: PARTS + 1]:
            content = part.get_payload(decode=True)
            kind = part.get_content_type()
            packed = _PACKED.fullmatch(kind)
            yield from self.of(
                content if isinstance(content, bytes) else b"",
                "" if packed or kind in _GUESSED else _kind_of_type(kind),
                deep + 1,
            )


def _text(raw: bytes) -> str:
    if b"\0" in raw:
        raise _Bad("there is a NUL byte in it")
    try:
        return raw.decode()
    except UnicodeDecodeError as problem:
        raise _Bad("it is not UTF-8 text") from problem


def _kind(text: str) -> str:
    begins = text.lstrip()
    for prefix, kind in _KINDS.items():
        if begins.lower().startswith(prefix):
            rest = begins[len(prefix) : len(prefix) + 1]
            if prefix == "#!" or not rest.strip():
                return kind
    raise _Bad(_unknown(begins))


def _unknown(begins: str) -> str:
    if not begins:
        return "it is empty"
    first = begins.splitlines()[0][:24]
    told = f"it starts with {first!r}, which cloud-init would ignore"
    if re.fullmatch(r"[A-Za-z0-9+/=\s]{40,}", begins[:400]):
        return f"{told}: it looks like base64, send the text itself"
    if re.match(r"[\w-]+\s*:", first):
        return f"{told}: the first line must be #cloud-config"
    return told


def _kind_of_type(told: str) -> str:
    if told not in _TYPES:
        raise _Bad(f"cloud-init would ignore a part of type {told[:60]!r}")
    return _TYPES[told]


def _include(text: str) -> Iterator[str]:
    lines = [line.strip() for line in text.splitlines()[1:]]
    if not any(line and not line.startswith("#") for line in lines):
        yield "it includes nothing: a URL per line is wanted"
    for line in lines:
        if line and not line.startswith("#") and not re.match(r"(https?|file)://[!-~]+$", line):
            yield f"{line[:40]!r} is no URL to include"


def _wrong_list(value: object, what: str) -> Iterable[str]:
    return () if isinstance(value, list) else (f"it is not {what}",)


# --- YAML ---------------------------------------------------------------------------------------


def _config(text: str) -> Iterator[str]:
    document = _loaded(text)
    if document is None:
        return
    if not isinstance(document, dict):
        yield "its YAML is no mapping"
        return
    for number, error in enumerate(_schema().iter_errors(_plain(document))):
        if number == TOLD:
            yield "and more of the kind"
            return
        yield _sentence(error)
    yield from _without_proof(document)


def _without_proof(document: dict[Any, Any]) -> Iterator[str]:
    """The proof comes with vendor data (Ironic writes vendor_data2.json), as a script of it."""
    for key in ("vendor_data", "vendor_data2"):
        told = document.get(key, {})
        on = told.get("enabled", True) if isinstance(told, dict) else False
        on = str(on).lower() in ("true", "1", "on", "yes")  # as cloud-init's is_true
        if not on or told.get("disabled_handlers"):
            yield f"{key}: it switches vendor data off, which the node's proof comes with"
    modules = document.get("cloud_final_modules")
    if isinstance(modules, list) and not _runs_vendor_scripts(modules):
        yield "cloud_final_modules: without scripts_vendor the node's proof is never sent"


def _runs_vendor_scripts(modules: list[Any]) -> bool:
    names = (m[0] if isinstance(m, list) and m else m for m in modules)
    return any(str(name).replace("-", "_") == "scripts_vendor" for name in names)


@cache
def _schema() -> Any:  # noqa: ANN401 - Validator of whichever draft the schema says
    return jsonschema_rs.validator_for(CLOUD_CONFIG.read_text(encoding="utf-8"), mask="it")


def _sentence(error: Any) -> str:  # noqa: ANN401
    where = ".".join(str(part) for part in error.instance_path)
    return f"{where or 'top level'}: {_why(error)}"


def _why(error: Any) -> str:  # noqa: ANN401
    """Of alternatives the one that came furthest: the others are about something else."""
    told = error.kind.as_dict()
    branches = [b for b in told.get("context", ()) if b and isinstance(b, list)]
    if branches:
        best = max(branches, key=lambda b: (len(b[0].instance_path), -_of_type(b[0])))
        inner = ".".join(str(p) for p in list(best[0].instance_path)[len(error.instance_path) :])
        return f"{inner}: {_why(best[0])}" if inner else _why(best[0])
    return str(error.message)[:200]


def _of_type(error: Any) -> bool:  # noqa: ANN401
    return "types" in error.kind.as_dict()


def _loaded(text: str) -> Any:  # noqa: ANN401
    """The document. Raises _Bad for what is no YAML, or grows beyond all measure."""
    try:
        return _Document(_events(text)).made()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        where = f" in line {mark.line + 1}" if mark else ""
        raise _Bad(f"its YAML is broken{where}: {_of_yaml(problem)}") from problem
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        if isinstance(problem, _Bad):
            raise
        raise _Bad("its YAML is broken") from problem


def _of_yaml(problem: yaml.MarkedYAMLError) -> str:
    """The parser's own words, but for those that repeat what it read."""
    told = str(problem.problem or "it cannot be read")
    return re.sub(r"'[^']{2,}'|\"[^\"]{2,}\"", "...", told)[:120]


def _events(text: str) -> list[yaml.Event]:
    """All of them. Refuses depth before anything recurses, and length before anything is built."""
    found: list[yaml.Event] = []
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        found.append(event)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH:
            raise _Bad(f"its YAML nests deeper than {DEPTH} levels")
        if len(found) > NODES:
            raise _Bad(f"its YAML has more than {NODES} nodes: {SHORTER}")
    return found


class _Document(Composer, SafeConstructor, Resolver):
    """What yaml.SafeLoader makes, of events that are there: scanning is what takes long."""

    def __init__(self, events: list[yaml.Event]) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._left = deque(events)

    def made(self) -> Any:  # noqa: ANN401
        """Raises _Bad for aliases, whose size multiplies, before it makes them."""
        root = self.get_single_node()
        if root is None:
            return None
        _size(root, {})
        return self.construct_document(root)

    def check_event(self, *kinds: type[yaml.Event]) -> bool:
        return bool(self._left) and (not kinds or isinstance(self._left[0], kinds))

    def peek_event(self) -> yaml.Event:
        return self._left[0]

    def get_event(self) -> yaml.Event:
        return self._left.popleft()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Nodes with all aliases written out."""
    if id(node) in known:
        if known[id(node)] < 0:
            raise _Bad("its YAML has an alias to what it is in")
        return known[id(node)]
    known[id(node)] = -1
    total = 1
    if isinstance(node, yaml.MappingNode):
        _twice(node)
        total += sum(_size(k, known) + _size(v, known) for k, v in node.value)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_size(item, known) for item in node.value)
    if total > NODES:
        raise _Bad("its YAML's aliases make it too large")
    known[id(node)] = total
    return total


def _twice(node: yaml.MappingNode) -> None:
    seen = set()
    for key in (k.value for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
        if key in seen and key != "<<":
            line = node.start_mark.line + 1
            raise _Bad(f"its YAML has {str(key)[:40]!r} twice below line {line}")
        seen.add(key)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """As JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, date | bytes) or (isinstance(value, float) and not abs(value) < 1e300):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return float(value)
    return value
