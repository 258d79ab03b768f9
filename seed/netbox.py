"""NetBox, the other side of a rack plan: places and cables come in, what was found goes out.

The only importer of pynetbox, which is an extra (`netbox`). Devices, interfaces and
device types are read; if asked to, three custom fields of devices are written, and nothing else.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from provisioning.errors import HostError, Invalid

TIMEOUT: Final = 60.0  # seconds per request
AT_ONCE: Final = 50  # devices whose interfaces are asked for in one URL
IN_USE: Final = ("active", "planned", "staged")
FIELDS: Final = ("seed_verdict", "seed_serial", "seed_bmc")
"""Custom fields of dcim.device, each of type Text."""

_NONSENSE = (KeyError, TypeError, AttributeError)  # pynetbox trusts what it gets
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Change:
    """One custom field that NetBox has otherwise."""

    device_id: int
    device: str
    slot: str
    field: str
    netbox: str
    seed: str


class _Session(requests.Session):
    """pynetbox states no timeout."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", TIMEOUT)
        return super().request(*args, **kwargs)


class NetBox:
    """One NetBox. token: it may read dcim; to write, change dcim.device, too."""

    def __init__(self, url: str, token: str, ca: str = "") -> None:
        parts = urlsplit(url)
        local = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise Invalid(f"{url} is not an https address", "The token would be readable there.")
        try:
            import pynetbox
        except ImportError as err:
            raise HostError(
                "pynetbox is not in this installation",
                f"{sys.prefix}/bin/pip install pynetbox",
            ) from err
        self._errors: tuple[type[Exception], ...] = (
            pynetbox.RequestError, pynetbox.ContentError, pynetbox.AllocationError,
        )  # fmt: skip
        self._api = pynetbox.api(url, token=token)
        self._api.http_session = _Session()
        self._api.http_session.verify = ca or True
        self._url = url

    def close(self) -> None:
        self._api.http_session.close()

    def devices(self, roles: Sequence[str], site: str = "") -> list[dict[str, Any]]:
        """Those with a rack and a position. roles, site: slugs."""
        asked: dict[str, Any] = {"role": list(roles), "status": list(IN_USE)}
        with self._reachable():
            found = self._api.dcim.devices.filter(**asked, **({"site": site} if site else {}))
            known = [dict(device) for device in found]
        return [d for d in known if d.get("rack") and d.get("position")]

    def plan(self, devices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of a plan, as `seed rack plan import` reads them."""
        with self._reachable():
            heights = self._heights({d["device_type"]["id"] for d in devices})
            nics = self._nics([d["id"] for d in devices])
            return [
                _row(d, heights.get(d["device_type"]["id"], 1), nics.get(d["id"], []))
                for d in devices
            ]

    def _heights(self, types: set[int]) -> dict[int, int]:
        return {
            found["id"]: max(1, int(found["u_height"]))
            for some in _parts(sorted(types))
            for found in map(dict, self._api.dcim.device_types.filter(id=some))
        }

    def _nics(self, devices: list[int]) -> dict[int, list[dict[str, Any]]]:
        """By device, in NetBox's order."""
        by_device: dict[int, list[dict[str, Any]]] = {}
        for some in _parts(devices):
            for nic in map(dict, self._api.dcim.interfaces.filter(device_id=some)):
                by_device.setdefault(nic["device"]["id"], []).append(nic)
        return by_device

    def write(self, changes: Sequence[Change]) -> None:
        """All changes of a device in one request; NetBox takes it whole or not at all."""
        by_device: dict[int, dict[str, str]] = {}
        for change in changes:
            by_device.setdefault(change.device_id, {})[change.field] = change.seed
        with self._reachable():
            for some in _parts(list(by_device)):
                self._api.dcim.devices.update(
                    [{"id": one, "custom_fields": by_device[one]} for one in some]
                )

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except self._errors as err:
            status = getattr(getattr(err, "req", None), "status_code", None)
            what = f"answered {status}" if status else "answered nonsense"
            raise HostError(
                f"NetBox at {self._url} {what}",
                "Is the token valid and allowed to read dcim (to write: change devices)?",
            ) from err
        except (requests.RequestException, ValueError, *_NONSENSE) as err:
            raise HostError(
                f"NetBox at {self._url} does not answer as NetBox does",
                f"curl -sS {self._url}/api/status/",
            ) from err


def differences(
    devices: Sequence[dict[str, Any]], report: dict[str, Any]
) -> tuple[list[Change], list[str]]:
    """What NetBox's custom fields say otherwise, and the fields it does not have."""
    slots = {
        (rack["rack"].rpartition("/")[2].lower(), slot["unit"]): slot
        for rack in report["racks"]
        for slot in rack["slots"]
    }
    changes, missing = [], set[str]()
    for device in devices:
        slot = slots.get((_plain(device["rack"]["name"]).lower(), int(device["position"])))
        fields = device.get("custom_fields") or {}
        missing |= set(FIELDS) - fields.keys()
        if slot:
            found = (slot["verdict"], slot["holds"], slot["address"])
            changes += [
                Change(device["id"], device["name"] or "", slot["slot"], name, was, now)
                for name, now in zip(FIELDS, found, strict=True)
                if (was := str(fields.get(name) or "")) != now
            ]
    return changes, sorted(missing)


def _row(device: dict[str, Any], height: int, nics: list[dict[str, Any]]) -> dict[str, Any]:
    row = {
        "site": _plain((device.get("site") or {}).get("slug") or ""),
        "row": _plain((device.get("location") or {}).get("slug") or ""),
        "rack": _plain(device["rack"]["name"]),
        "unit": str(int(device["position"])),
        "height": str(height),
        "serial": (device.get("serial") or "").strip(),
        "bmc_mac": next((_mac(nic) for nic in nics if nic.get("mgmt_only") and _mac(nic)), ""),
    }
    cables = {
        _mac(nic) or nic["name"]: port
        for nic in nics
        if not nic.get("mgmt_only") and (port := _port(nic))
    }
    return {key: value for key, value in row.items() if value} | {"nics": cables}


def _mac(nic: dict[str, Any]) -> str:
    """NetBox 4.2 and later have it in an object of its own."""
    primary = nic.get("primary_mac_address") or {}
    return str(nic.get("mac_address") or primary.get("mac_address") or "").lower()


def _port(nic: dict[str, Any]) -> str:
    """The far end of its cable, through patch panels; empty for what is no device's port."""
    for end in nic.get("connected_endpoints") or []:
        if (end.get("device") or {}).get("name"):
            return f"{end['device']['name']}:{end['name']}"
    return ""


def _plain(name: str) -> str:
    """A name as plans take it: "Rack 3" is Rack-3."""
    return _UNFIT.sub("-", name).strip("-._")


def _parts(ids: list[int]) -> list[list[int]]:
    return [ids[n : n + AT_ONCE] for n in range(0, len(ids), AT_ONCE)]
