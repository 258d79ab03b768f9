"""How Ironic names BMCs and logins, in every format that was made for it."""

from typing import Any
from urllib.parse import urlsplit

from provisioning.errors import Invalid
from provisioning.intake import text

MASK = "******"
"""What Ironic tells instead of a secret."""

_DRIVERS = ("redfish", "ipmi", "drac", "idrac", "ilo", "irmc", "ibmc", "xclarity", "ssh")
_KEPT = ("redfish_system_id", "ipmi_port", "ipmi_terminal_port")


def bmc_of(driver_info: Any) -> dict[str, Any]:  # noqa: ANN401
    """Address, login and what else matters, of Ironic's driver_info (also in Bifrost's parts)."""
    info = _flat(driver_info)
    found: dict[str, Any] = {"facts": {k: info[k] for k in _KEPT if k in info}}
    for driver in _DRIVERS:
        if address := info.get(f"{driver}_address"):
            found["bmc_address"] = host_of(text("address", address))
            found["username"] = info.get(f"{driver}_username")
            found["password"] = info.get(f"{driver}_password")
            return found
    return found


def _flat(info: Any) -> dict[str, Any]:  # noqa: ANN401
    """Bifrost may part it: {"power": {...}, "management": {...}}."""
    table = tabled("driver_info", info or {})
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


def host_of(address: str) -> str:
    """The host of a URL, a host:port or a plain address."""
    try:
        if address.count(":") > 1 and "://" not in address and not address.startswith("["):
            return address  # IPv6
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError as err:
        raise Invalid(f"{address[:80]!r} is no address", "Write it as in the BMC.") from err


def tabled(what: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise Invalid(f"{what} is no table", "Compare it with the format's own example.")
    return value


def each(what: str, value: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise Invalid(f"{what} is no list of tables", "Compare it with the format's own example.")
    return value


def is_table(value: Any, *keys: str) -> bool:  # noqa: ANN401
    return isinstance(value, dict) and any(key in value for key in keys)
