"""What a ramdisk tells of its server, with limits; shape as ironic-python-agent 13.0 sends it."""

import json
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from api.problems import Malformed

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_REMEDY = "compare it with what ironic-python-agent sends"
Text = Annotated[str, StringConstraints(max_length=255)]


@dataclass(frozen=True)
class Seen:
    """One server, as it says itself."""

    macs: frozenset[str]
    bmc_addresses: frozenset[str]
    serial: str = ""
    vendor: str = ""
    model: str = ""


class _Interface(BaseModel):
    mac_address: Text | None = None


class _Vendor(BaseModel):
    serial_number: Text | None = None
    manufacturer: Text | None = None
    product_name: Text | None = None


class _Inventory(BaseModel):
    interfaces: list[_Interface] = Field(min_length=1, max_length=64)
    disks: list[dict[str, Any]] = Field(default=[], max_length=512)
    bmc_address: Text | None = None
    bmc_v6address: Text | None = None
    system_vendor: _Vendor = _Vendor()


class _Posted(BaseModel):
    model_config = ConfigDict(extra="ignore")

    inventory: _Inventory


def clean_macs(addresses: list[str]) -> frozenset[str]:
    """Those that are EUI-48, as we store them: lower case with colons."""
    found = (address.strip().lower().replace("-", ":") for address in addresses)
    return frozenset(mac for mac in found if _MAC.fullmatch(mac))


def plain_ip(text: str) -> str:
    """An address in its one spelling; empty for none, "0.0.0.0" and nonsense."""
    try:
        address = ip_address(text.strip().partition("/")[0])
    except ValueError:
        return ""
    return "" if address.is_unspecified else str(address)


def parse(body: bytes) -> tuple[dict[str, Any], Seen]:
    """The posted document, and what matters of it. Raises Malformed."""
    try:
        document = json.loads(body, parse_constant=_no_constant)
        posted = _Posted.model_validate(document)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise Malformed(
            f"the inventory is not right at {where}: {fault['msg']}", _REMEDY
        ) from error
    except ValueError as error:
        raise Malformed("the inventory is not JSON", _REMEDY) from error
    return document, _seen(posted.inventory)


def _seen(inventory: _Inventory) -> Seen:
    bmcs = (plain_ip(text or "") for text in (inventory.bmc_address, inventory.bmc_v6address))
    vendor = inventory.system_vendor
    return Seen(
        macs=clean_macs([nic.mac_address or "" for nic in inventory.interfaces]),
        bmc_addresses=frozenset(filter(None, bmcs)),
        serial=(vendor.serial_number or "").strip(),
        vendor=vendor.manufacturer or "",
        model=vendor.product_name or "",
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
