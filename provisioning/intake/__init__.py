"""Servers as other people's files list them: one module per format, each states PLUGIN."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import SecretStr

from provisioning.errors import Invalid
from provisioning.identity import address_key
from provisioning.names import HOST_LABEL, NAME
from provisioning.networks import mac

HOST = "bmc_host"
"""The fact that keeps a BMC's host name."""
MAX_FACTS, MAX_TEXT, MAX_MACS = 64, 255, 64
USERNAME = re.compile(r"[!-~]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Listed:
    """One server as a file names it; what the file does not say is empty.

    where:    the place in the file, for a person: "row 7", "nodes[3]".
    name:     the node's name; facts["name"] has one that is no host label.
    facts:    what else the file says, strings; never a password.
    """

    where: str
    serial: str = ""
    system_uuid: str = ""
    bmc_mac: str = ""
    bmc_address: str = ""
    macs: tuple[str, ...] = ()
    name: str = ""
    resource_class: str = ""
    username: str = ""
    password: SecretStr | None = None
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """A file as read. parts: its YAML or JSON documents; rows: its cells, where it is CSV."""

    name: str
    parts: tuple[Any, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


class Format(Protocol):
    """What a format must be able to do."""

    name: str
    title: str  # for people: "Bifrost's baremetal.json or .yml"

    def fits(self, document: Document) -> bool:
        """Does this look like one? Never raises."""

    def read(self, document: Document) -> list[Listed]:
        """Every server in it. Raises Invalid, naming the place."""


def listed(where: str, said: Mapping[str, Any]) -> Listed:
    """A server of these words, each checked. Raises Invalid, naming the place, never a password.

    said: Listed's fields; `macs` a list, `facts` anything.
    """
    try:
        return _listed(where, said)
    except Invalid as err:
        raise Invalid(f"{where}: {err}", err.remedy) from err


def _listed(where: str, said: Mapping[str, Any]) -> Listed:
    facts = {
        str(k): text(str(k), v) for k, v in said.get("facts", {}).items() if v not in ("", None)
    }
    if len(facts) > MAX_FACTS:
        raise Invalid(f"it has more than {MAX_FACTS} words", "Leave some out.")
    name = text("name", said.get("name"))
    if name and not re.fullmatch(HOST_LABEL, name.lower()):
        facts["name"], name = name, ""
    address = text("the BMC's address", said.get("bmc_address"))
    if address and not address_key(address):
        facts[HOST], address = address, ""
    username, password = _login(said.get("username"), said.get("password"))
    return Listed(
        where,
        serial=text("serial", said.get("serial")),
        system_uuid=text("UUID", said.get("system_uuid")),
        bmc_mac=_mac(said.get("bmc_mac")),
        bmc_address=address_key(address),
        macs=_macs(said.get("macs") or ()),
        name=name.lower(),
        resource_class=_class(text("resource class", said.get("resource_class"))),
        username=username,
        password=password,
        facts=facts,
    )


def text(what: str, value: Any) -> str:  # noqa: ANN401
    """A short line of text. Raises Invalid for what is none."""
    if isinstance(value, (dict, list, bytes)):
        raise Invalid(f"{what[:80]!r} is no single word", "Compare it with the format's example.")
    line = "" if value is None else str(value).strip()
    if len(line) > MAX_TEXT or _CONTROL.search(line):
        raise Invalid(
            f"{what[:80]!r} is longer than {MAX_TEXT} characters or has control characters",
            "Shorten it to one line.",
        )
    return line


def _login(username: Any, password: Any) -> tuple[str, SecretStr | None]:  # noqa: ANN401
    user = text("user name", username)
    if password in (None, ""):
        return user, None
    if not isinstance(password, str) or len(password) > 256 or _CONTROL.search(password):
        raise Invalid("its password is no line of at most 256 characters", "Correct it.")
    if not USERNAME.fullmatch(user):
        raise Invalid(
            "it has a password but no user name of 1 to 64 letters, digits and signs",
            "Add a column 'user', or `--username`.",
        )
    return user, SecretStr(password)


def _mac(value: Any) -> str:  # noqa: ANN401
    return mac(text("MAC", value)) if value else ""


def _macs(values: Any) -> tuple[str, ...]:  # noqa: ANN401
    if not isinstance(values, (list, tuple)) or len(values) > MAX_MACS:
        raise Invalid(f"its MACs are no list of at most {MAX_MACS}", "Correct it.")
    return tuple(sorted({_mac(v) for v in values} - {""}))


def _class(name: str) -> str:
    if name and not re.fullmatch(NAME, name):
        raise Invalid(
            f"{name!r} is no resource class",
            "Letters, digits, '.', '_' and '-', at most 80, a letter or digit first.",
        )
    return name
