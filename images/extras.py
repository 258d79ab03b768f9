"""What a site adds to an image: a small document whose digest is part of the build's.

Grammar of each value is strict, because all of it becomes files, accounts and packages of every
server with the image; secrets are refused, because an image is no place for them.
"""

import hashlib
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated

from cryptography import x509
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from provisioning.errors import Invalid

EXAMPLE = "docs/images.md shows one"
LIMIT = 256 << 10
"""Bytes a document may have."""

PRIVATE = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
KEY = re.compile(
    r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|"
    r"sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]{40,}={0,3}( [\x20-\x7e]{0,200})?$"
)
URL = re.compile(
    r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?$|^https?://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?/?$"
)
CLOSED = tuple(f"/{top}" for top in "proc sys dev run tmp boot var/lib/dpkg lib/modules".split())
ACCOUNTS = tuple(
    f"/etc/{name}" for name in "passwd shadow group gshadow sudoers fstab machine-id".split()
)
TAKEN = ("root", "debian", "vagrant", "rescue", "nobody", "daemon", "sshd", "messagebus")


def _authority(text: str) -> str:
    if PRIVATE.search(text):
        raise ValueError("this is a private key; a certificate is wanted")
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise ValueError("no PEM certificate can be read from it") from error
    for one in found:
        try:
            kind = one.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (x509.ExtensionNotFound, ValueError) as error:
            raise ValueError("a certificate without basic constraints is no CA's") from error
        if not kind.ca:
            raise ValueError("this certificate may not sign others: it is no CA's")
    return text.strip() + "\n"


def _path(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("a path is of printable ASCII without blanks")
    path = PurePosixPath(text)
    if not path.is_absolute() or str(path) != text or ".." in path.parts:
        raise ValueError("a path is absolute and without '..', '//' or a '/' at its end")
    if text in ACCOUNTS or any(text == top or text.startswith(f"{top}/") for top in CLOSED):
        raise ValueError("this path is not a site's to write")
    return text


def _content(text: str) -> str:
    if PRIVATE.search(text):
        raise ValueError("this holds a private key, and an image is no place for secrets")
    return text


def _key(text: str) -> str:
    if not KEY.fullmatch(text):
        raise ValueError("this is no public SSH key in one line: '<type> <base64> [comment]'")
    return text


def _proxy(text: str) -> str:
    if "@" in text:
        raise ValueError("a login in a proxy's address would be readable on every server")
    if not URL.fullmatch(text):
        raise ValueError("a proxy is http://host:port")
    return text


def _user(name: str) -> str:
    if name in TAKEN:
        raise ValueError(f"{name!r} is an account of the image itself")
    return name


def _no_password(given: object) -> object:
    if isinstance(given, dict) and any("pass" in str(key) for key in given):
        raise ValueError("an account of an image has keys, never a password")
    return given


Text = Annotated[str, StringConstraints(max_length=64 << 10), AfterValidator(_content)]
Certificate = Annotated[str, StringConstraints(max_length=64 << 10), AfterValidator(_authority)]
Proxy = Annotated[str, AfterValidator(_proxy)]
# Debian Policy 5.6.7; apt reads a '-' at the end as "remove it".
Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]{0,99}[a-z0-9+.]$")]
NoProxy = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.*/:-]{1,100}$")]


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class User(Document):
    """An account with keys. sudo: it may do everything, without being asked for a password."""

    name: Annotated[
        str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,30}$"), AfterValidator(_user)
    ]
    ssh_keys: tuple[Annotated[str, AfterValidator(_key)], ...] = Field(min_length=1, max_length=20)
    sudo: bool = False


class File(Document):
    """A file of root's. mode: 0644 and the like, without set-user-id."""

    path: Annotated[str, StringConstraints(max_length=500), AfterValidator(_path)]
    content: Text
    mode: Annotated[str, StringConstraints(pattern=r"^0[4-7][0145][0145]$")] = "0644"


class Extras(Document):
    """What a site adds.

    ca:       PEM certificates of authorities that every program of the image trusts.
    proxy:    http://host:port for apt and for logins; no_proxy: what goes past it.
    packages: Debian packages, from the image's own mirror.
    """

    ca: tuple[Certificate, ...] = Field(default=(), max_length=20)
    proxy: Proxy | None = None
    no_proxy: tuple[NoProxy, ...] = Field(default=(), max_length=50)
    packages: tuple[Package, ...] = Field(default=(), max_length=200)
    users: tuple[Annotated[User, BeforeValidator(_no_password)], ...] = Field(
        default=(), max_length=50
    )
    files: tuple[File, ...] = Field(default=(), max_length=200)

    def digest(self) -> str:
        """ "" for no extras; else 64 hex digits."""
        if self == Extras():
            return ""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def asked(self) -> set[str]:
        """Names of the parts that ask for something."""
        return {name for name, value in self if value}


NO_EXTRAS = Extras()


def read(path: Path) -> Extras:
    """The document in a TOML file. Raises Invalid, which names the place."""
    try:
        with path.open("rb") as file:
            raw = file.read(LIMIT + 1)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", f"ls -l {path}") from error
    if len(raw) > LIMIT:
        raise Invalid(f"{path} is longer than {LIMIT >> 10} KiB", EXAMPLE)
    try:
        return parse(tomllib.loads(raw.decode()), str(path))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError too
        raise Invalid(
            f"{path} is no TOML: {' '.join(str(error).split())[:200]}", EXAMPLE
        ) from error


def parse(found: object, name: str = "extras") -> Extras:
    """A document as it came out of TOML or JSON. Raises Invalid for the first thing wrong."""
    try:
        made = Extras.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        reason = first["msg"].removeprefix("Value error, ")
        raise Invalid(f"{name}: {place}: {reason}", EXAMPLE) from error
    for what in (made.packages, [u.name for u in made.users], [f.path for f in made.files]):
        if len(set(what)) != len(what):
            twice = next(one for one in what if list(what).count(one) > 1)
            raise Invalid(f"{name}: {twice} is there twice", EXAMPLE)
    return made
