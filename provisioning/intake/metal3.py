"""Metal3: BareMetalHosts (metal3.io/v1alpha1) and the Secrets with their logins, as YAML."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from provisioning.driver_info import each, host_of, tabled
from provisioning.errors import Invalid
from provisioning.intake import Document, Listed, listed, text

HOST, SECRET = "BareMetalHost", "Secret"


@dataclass(frozen=True, slots=True)
class Metal3:
    name: str = "metal3"
    title: str = "BareMetalHosts of Metal3, with their Secrets"

    def fits(self, document: Document) -> bool:
        return any(
            isinstance(p, dict)
            and (p.get("kind") == HOST or (p.get("kind") == "List" and "items" in p))
            for p in document.parts
        )

    def read(self, document: Document) -> list[Listed]:
        things = list(_things(document))
        logins = {_key(t): _opened(t) for t in things if t.get("kind") == SECRET}
        return [_host(t, logins) for t in things if t.get("kind") == HOST]


def _things(document: Document) -> Iterator[dict[str, Any]]:
    for part in document.parts:
        thing = tabled("a document", part)
        yield from each("items", thing["items"]) if thing.get("kind") == "List" else [thing]


def _key(thing: dict[str, Any], name: str = "") -> tuple[str, str]:
    metadata = tabled("metadata", thing.get("metadata") or {})
    space = text("namespace", metadata.get("namespace")) or "default"
    return space, name or text("name", metadata.get("name"))


def _opened(secret: dict[str, Any]) -> dict[str, str]:
    """`stringData` as it is, `data` from base64 (RFC 4648)."""
    found: dict[str, str] = {}
    for key, value in tabled("data", secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(str(value), validate=True).decode().rstrip("\n")
        except (binascii.Error, UnicodeDecodeError) as err:
            raise Invalid(
                f"Secret {_key(secret)[1]}: {key!r} is not base64", "Is it meant as `stringData`?"
            ) from err
    for key, value in tabled("stringData", secret.get("stringData") or {}).items():
        found[key] = str(value)
    return found


def _host(thing: dict[str, Any], logins: dict[tuple[str, str], dict[str, str]]) -> Listed:
    space, name = _key(thing)
    where = f"BareMetalHost {name[:80]}"
    spec = tabled(f"{where}: spec", thing.get("spec") or {})
    bmc = tabled(f"{where}: spec.bmc", spec.get("bmc") or {})
    wanted = text("credentialsName", bmc.get("credentialsName"))
    login = logins.get((space, wanted), {})
    address = text("address", bmc.get("address"))
    return listed(
        where,
        {
            "name": name,
            "macs": [spec["bootMACAddress"]] if spec.get("bootMACAddress") else [],
            "bmc_address": host_of(address),
            "username": login.get("username"),
            "password": login.get("password"),
            "facts": {
                "driver": address.partition("://")[0] if "://" in address else "ipmi",
                "redfish_system_id": _path(address),
                "boot_mode": spec.get("bootMode"),
                "namespace": space,
                "secret": "" if login or not wanted else f"{wanted} is not in the file",
            },
        },
    )


def _path(address: str) -> str:
    """Of redfish://host/redfish/v1/Systems/1 the path."""
    _, _, rest = address.partition("://")
    path = rest.partition("/")[2].partition("?")[0]
    return f"/{path}" if path.startswith("redfish/") else ""


PLUGIN = Metal3()
