"""What honest BMCs do in several ways: pages, $expand, LEDs, ailing parts, vendors' own places."""

from enum import StrEnum
from typing import Any

from seed.lab.fleet import tree
from seed.lab.fleet.bmc import PORTS_PER_SWITCH, Bmc
from seed.lab.fleet.parts import OK, ROOT, Body, collection, link, resource

FQDD = "NIC.Integrated.1-{}-1"
CONNECTIONS = f"{tree.SYSTEM}/NetworkPorts/Oem/Dell/DellSwitchConnections"
CRITICAL, WARNING = {**OK, "Health": "Critical"}, {**OK, "Health": "Warning"}


class Shape(StrEnum):
    """DSP0266: paging 7.7, $expand 7.3.1. DSP2046: LocationIndicatorActive, IndicatorLED."""

    PAGED = "paged"  # collections, one member a page
    CIRCLE = "circle"  # paged, and the last page leads to the first
    EXPAND = "expand"  # knows $expand, and says so
    NO_EXPAND = "no-expand"  # says so, and answers 501
    OLD_LED = "old-led"  # IndicatorLED, and on the chassis only
    AILING = "ailing"  # one DIMM, drive, fan and power supply
    DELL = "dell"  # its switches are where iDRAC9 has them, by chassis id; NIC 2 has no link


def shaped(bmc: Bmc, path: str, query: str, body: Body | None) -> Body | None:
    """The resource as a BMC of these shapes shows it. None: 404."""
    body = body or _own(bmc, path)
    if body is None:
        return None
    for shape in bmc.shapes:
        body = body | _CHANGES.get(Shape(shape), _nothing)(bmc, path)
    for name in _without(bmc, path):
        body.pop(name, None)
    if "Members" in body:
        body = _expanded(bmc, query, body)
        body = _page(bmc, path, query, body)
    return body


def refuses(bmc: Bmc, query: str) -> bool:
    return Shape.NO_EXPAND in bmc.shapes and "$expand" in query


def _nothing(bmc: Bmc, path: str) -> Body:
    return {}


def _page(bmc: Bmc, path: str, query: str, body: Body) -> Body:
    if not {Shape.PAGED, Shape.CIRCLE} & set(bmc.shapes):
        return body
    first = int(query.partition("$skip=")[2] or 0)
    members = body["Members"]
    body = body | {"Members": members[first : first + 1]}
    after = first + 1 if first + 1 < len(members) else 0
    if after or Shape.CIRCLE in bmc.shapes:
        body["Members@odata.nextLink"] = f"{path}?$skip={after}"
    return body


def _expanded(bmc: Bmc, query: str, body: Body) -> Body:
    if Shape.EXPAND not in bmc.shapes or "$expand" not in query:
        return body
    paths = [member["@odata.id"] for member in body["Members"]]
    return body | {"Members": [shaped(bmc, path, "", tree.show(bmc, path)) for path in paths]}


# --- what a shape changes in a resource -----------------------------------------------------------


def _expand(bmc: Bmc, path: str) -> Body:
    if path != ROOT:
        return {}
    known = {"ExpandAll": True, "NoLinks": True, "Links": False, "Levels": True, "MaxLevels": 2}
    return {"ProtocolFeaturesSupported": {"ExpandQuery": known}}


def _ailing(bmc: Bmc, path: str) -> Body:
    changes: dict[str, Body] = {
        tree.SYSTEM: {"Status": OK | {"HealthRollup": "Critical"}},
        f"{tree.SYSTEM}/Memory/2": {"Name": "DIMM A2", "Status": CRITICAL},
        f"{tree.SYSTEM}/Storage/1/Drives/1": {"Name": "Bay 1", "Status": WARNING},
        tree.CHASSIS: {
            "Thermal": link(f"{tree.CHASSIS}/Thermal"),
            "PowerSubsystem": link(f"{tree.CHASSIS}/PowerSubsystem"),
        },
    }
    return changes.get(path, {})


def _dell(bmc: Bmc, path: str) -> Body:
    folder, _, number = path.rpartition("/")
    if folder == f"{tree.SYSTEM}/EthernetInterfaces":
        return {"Id": FQDD.format(number), "Name": "System Ethernet Interface"}
    if folder == f"{tree.ADAPTER}/Ports":
        return {"Ethernet": {"AssociatedMACAddresses": [bmc.nic_macs()[int(number) - 1]]}}
    if path == tree.MANAGER:
        links: dict[str, Any] = (tree.show(bmc, path) or {})["Links"]
        dell = {"DellSwitchConnectionCollection": link(CONNECTIONS)}
        return {"Links": links | {"Oem": {"Dell": dell}}}
    return {}


_CHANGES = {
    Shape.EXPAND: _expand, Shape.NO_EXPAND: _expand, Shape.AILING: _ailing, Shape.DELL: _dell,
}  # fmt: skip


def _without(bmc: Bmc, path: str) -> tuple[str, ...]:
    if Shape.OLD_LED not in bmc.shapes:
        return ()
    both = ("LocationIndicatorActive", "IndicatorLED")
    return {tree.SYSTEM: both, tree.CHASSIS: both[:1]}.get(path, ())


# --- resources that only a shape has --------------------------------------------------------------


def _own(bmc: Bmc, path: str) -> Body | None:
    if Shape.DELL in bmc.shapes and path == CONNECTIONS:
        names = ["iDRAC.Embedded.1", FQDD.format(1), FQDD.format(2)]
        return collection(path, "DellSwitchConnection", names)
    if Shape.DELL in bmc.shapes and path.startswith(f"{CONNECTIONS}/"):
        return _connection(bmc, path)
    return _coolers(path) if Shape.AILING in bmc.shapes else None


def _connection(bmc: Bmc, path: str) -> Body:
    name = path.rpartition("/")[2]
    switch, port = "No Link", "No Link"
    if name == FQDD.format(1):
        switch = f"02:00:00:00:{bmc.number // PORTS_PER_SWITCH & 255:02x}:00"
        port = bmc.neighbour(0)[1]
    return resource(
        path, "DellSwitchConnection.v1_1_0.DellSwitchConnection", FQDD=name,
        StaleData="NotStale", SwitchConnectionID=switch, SwitchPortConnectionID=port,
    )  # fmt: skip


def _coolers(path: str) -> Body | None:
    """A fan as the older schemas have it, a power supply as the newer ones do."""
    power = f"{tree.CHASSIS}/PowerSubsystem"
    match path.removeprefix(tree.CHASSIS):
        case "/Thermal":
            fans = [{"Name": "Fan 3", "Status": CRITICAL}, {"Name": "Fan 4", "Status": OK}]
            return resource(path, "Thermal.v1_7_0.Thermal", Fans=fans)
        case "/PowerSubsystem":
            supplies = link(f"{power}/PowerSupplies")
            return resource(path, "PowerSubsystem.v1_1_0.PowerSubsystem", PowerSupplies=supplies)
        case "/PowerSubsystem/PowerSupplies":
            return collection(path, "PowerSupply", ["1", "2"])
        case "/PowerSubsystem/PowerSupplies/1":
            return resource(path, "PowerSupply.v1_5_0.PowerSupply", Status=OK)
        case "/PowerSubsystem/PowerSupplies/2":
            bad = resource(path, "PowerSupply.v1_5_0.PowerSupply", Status=CRITICAL)
            return bad | {"Name": "PSU 2"}
    return None
