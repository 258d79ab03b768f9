"""What one BMC's Redfish service shows: path to resource, made when asked (DSP0266, DSP0268)."""

from collections.abc import Callable

from seed.lab.fleet import parts
from seed.lab.fleet.bmc import Bmc
from seed.lab.fleet.parts import (
    ACCOUNTS,
    DIMM_MIB,
    DIMMS,
    OK,
    ROOT,
    SOCKETS,
    Body,
    collection,
    link,
    resource,
)

SYSTEM, CHASSIS, MANAGER = f"{ROOT}/Systems/1", f"{ROOT}/Chassis/1", f"{ROOT}/Managers/1"
ADAPTER = f"{CHASSIS}/NetworkAdapters/1"
SESSIONS = f"{ROOT}/SessionService"

Maker = Callable[[Bmc], Body]


def show(bmc: Bmc, path: str) -> Body | None:
    """The resource at `path` (without a slash at its end), with what was patched; None: 404."""
    body = _made(bmc, path)
    if body is not None and path in bmc.changes:
        body = _merged(body, bmc.changes[path])
    return body


def _made(bmc: Bmc, path: str) -> Body | None:
    if path in FIXED:
        return FIXED[path](bmc)
    folder, _, last = path.rpartition("/")
    if folder not in MEMBERS:
        return None
    ids, maker = MEMBERS[folder]
    return maker(bmc, path, last) if last in ids(bmc) else None


def _merged(body: Body, change: Body) -> Body:
    merged = dict(body)
    for key, value in change.items():
        old = merged.get(key)
        deeper = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = _merged(old, value) if deeper and isinstance(old, dict) else value
    return merged


def _root(bmc: Bmc) -> Body:
    names = ("Systems", "Chassis", "Managers", "UpdateService", "AccountService")
    return resource(
        ROOT,
        "ServiceRoot.v1_11_0.ServiceRoot",
        RedfishVersion="1.15.0",
        UUID=bmc.uuid,
        Vendor=bmc.kind.vendor,
        Product=f"{bmc.kind.model} BMC",
        SessionService=link(SESSIONS),
        EventService=link(f"{ROOT}/EventService"),
        Links={"Sessions": link(f"{SESSIONS}/Sessions")},
        **{name: link(f"{ROOT}/{name}") for name in names},
    )


def _serial_number(bmc: Bmc) -> str:
    """Of the server; of Dell's the board's: the server's is the SKU."""
    return f"CNBOARD{bmc.number:07d}" if bmc.kind.vendor.startswith("Dell") else bmc.serial


def _system(bmc: Bmc) -> Body:
    parts = ("EthernetInterfaces", "Processors", "Memory", "Storage", "SecureBoot", "Bios")
    return resource(
        SYSTEM,
        "ComputerSystem.v1_16_0.ComputerSystem",
        Manufacturer=bmc.kind.vendor,
        Model=bmc.kind.model,
        SerialNumber=_serial_number(bmc),
        SKU=bmc.serial,
        UUID=bmc.uuid,
        AssetTag="",
        HostName="",
        SystemType="Physical",
        PowerState=bmc.power,
        BiosVersion="1.8.2",
        IndicatorLED="Off",
        LocationIndicatorActive=False,
        Status=OK | {"HealthRollup": "OK"},
        ProcessorSummary={"Count": SOCKETS, "Model": "Xeon Gold 6326", "Status": OK},
        MemorySummary={"TotalSystemMemoryGiB": DIMMS * DIMM_MIB // 1024, "Status": OK},
        Boot={
            "BootSourceOverrideEnabled": "Disabled",
            "BootSourceOverrideTarget": "None",
            "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideTarget@Redfish.AllowableValues": [
                "None", "Pxe", "Cd", "Hdd", "BiosSetup", "UefiHttp",
            ],
            "HttpBootUri": None,
        },
        Links={"Chassis": [link(CHASSIS)], "ManagedBy": [link(MANAGER)]},
        Actions={
            "#ComputerSystem.Reset": {
                "target": f"{SYSTEM}/Actions/ComputerSystem.Reset",
                "ResetType@Redfish.AllowableValues": [
                    "On", "ForceOff", "GracefulShutdown", "ForceRestart", "PushPowerButton",
                ],
            }
        },
        **{name: link(f"{SYSTEM}/{name}") for name in parts},
    )  # fmt: skip


def _chassis(bmc: Bmc) -> Body:
    return resource(
        CHASSIS,
        "Chassis.v1_17_0.Chassis",
        ChassisType="RackMount",
        Manufacturer=bmc.kind.vendor,
        Model=bmc.kind.model,
        SerialNumber=_serial_number(bmc),
        PowerState=bmc.power,
        IndicatorLED="Off",
        LocationIndicatorActive=False,
        Status=OK,
        NetworkAdapters=link(f"{CHASSIS}/NetworkAdapters"),
        Links={"ComputerSystems": [link(SYSTEM)], "ManagedBy": [link(MANAGER)]},
    )


def _manager(bmc: Bmc) -> Body:
    return resource(
        MANAGER,
        "Manager.v1_13_0.Manager",
        ManagerType="BMC",
        Manufacturer=bmc.kind.vendor,
        Model=f"{bmc.kind.model} BMC",
        FirmwareVersion="6.10.30.00",
        Status=OK,
        EthernetInterfaces=link(f"{MANAGER}/EthernetInterfaces"),
        VirtualMedia=link(f"{MANAGER}/VirtualMedia"),
        NetworkProtocol=link(f"{MANAGER}/NetworkProtocol"),
        Links={"ManagerForServers": [link(SYSTEM)], "ManagerForChassis": [link(CHASSIS)]},
    )


def _protocols(bmc: Bmc) -> Body:
    on = {"ProtocolEnabled": True}
    return resource(
        f"{MANAGER}/NetworkProtocol", "ManagerNetworkProtocol.v1_8_0.ManagerNetworkProtocol",
        HTTPS=on | {"Port": 443}, IPMI={"ProtocolEnabled": bmc.speaks == "both", "Port": 623},
    )  # fmt: skip


def _account_service(bmc: Bmc) -> Body:
    return resource(
        ACCOUNTS, "AccountService.v1_11_0.AccountService", ServiceEnabled=True,
        MinPasswordLength=8, MaxPasswordLength=32, AccountLockoutThreshold=5,
        AccountLockoutDuration=600, Accounts=link(f"{ACCOUNTS}/Accounts"),
        Roles=link(f"{ACCOUNTS}/Roles"),
    )  # fmt: skip


def _session_service(bmc: Bmc) -> Body:
    return resource(
        SESSIONS, "SessionService.v1_1_8.SessionService", ServiceEnabled=True,
        SessionTimeout=1800, Sessions=link(f"{SESSIONS}/Sessions"), Status=OK,
    )  # fmt: skip


def _update_service(bmc: Bmc) -> Body:
    path = f"{ROOT}/UpdateService"
    return resource(
        path, "UpdateService.v1_11_0.UpdateService", ServiceEnabled=True, Status=OK,
        FirmwareInventory=link(f"{path}/FirmwareInventory"),
    )  # fmt: skip


def _event_service(bmc: Bmc) -> Body:
    path = f"{ROOT}/EventService"
    return resource(
        path, "EventService.v1_8_0.EventService", ServiceEnabled=True, Status=OK,
        Subscriptions=link(f"{path}/Subscriptions"),
    )  # fmt: skip


def _secure_boot(bmc: Bmc) -> Body:
    return resource(
        f"{SYSTEM}/SecureBoot", "SecureBoot.v1_1_0.SecureBoot", SecureBootEnable=False,
        SecureBootCurrentBoot="Disabled", SecureBootMode="UserMode",
    )  # fmt: skip


def _bios(bmc: Bmc) -> Body:
    return resource(f"{SYSTEM}/Bios", "Bios.v1_2_0.Bios", Attributes={"BootMode": "Uefi"})


def _firmware(bmc: Bmc, path: str, number: str) -> Body:
    version = _manager(bmc)["FirmwareVersion"] if number == "BMC" else "1.8.2"
    return resource(
        path, "SoftwareInventory.v1_9_0.SoftwareInventory", Version=version, Updateable=True
    )


def _of_collection(path: str, kind: str) -> Maker:
    return lambda bmc: collection(path, kind, MEMBERS[path][0](bmc))


def _ids(*fixed: str) -> Callable[[Bmc], list[str]]:
    return lambda bmc: list(fixed)


MEMBERS: dict[str, tuple[Callable[[Bmc], list[str]], Callable[[Bmc, str, str], Body]]] = {
    f"{SYSTEM}/EthernetInterfaces": (_ids("1", "2"), parts.nic),
    f"{SYSTEM}/Processors": (_ids("1", "2"), parts.processor),
    f"{SYSTEM}/Memory": (_ids(*(str(n + 1) for n in range(DIMMS))), parts.dimm),
    f"{SYSTEM}/Storage": (_ids("1"), parts.storage),
    f"{SYSTEM}/Storage/1/Drives": (_ids("1", "2"), parts.drive),
    f"{CHASSIS}/NetworkAdapters": (_ids("1"), parts.adapter),
    f"{ADAPTER}/Ports": (_ids("1", "2"), parts.port),
    f"{MANAGER}/EthernetInterfaces": (_ids("1"), parts.manager_nic),
    f"{MANAGER}/VirtualMedia": (_ids("CD1"), parts.medium),
    f"{ACCOUNTS}/Accounts": (lambda bmc: list(bmc.accounts), parts.account),
    f"{ACCOUNTS}/Roles": (_ids("Administrator", "Operator", "ReadOnly"), parts.role),
    f"{SESSIONS}/Sessions": (lambda bmc: list(bmc.sessions), parts.session),
    f"{ROOT}/UpdateService/FirmwareInventory": (_ids("BMC", "BIOS"), _firmware),
}
_KINDS = {
    f"{SYSTEM}/EthernetInterfaces": "EthernetInterface", f"{SYSTEM}/Processors": "Processor",
    f"{SYSTEM}/Memory": "Memory", f"{SYSTEM}/Storage": "Storage",
    f"{CHASSIS}/NetworkAdapters": "NetworkAdapter", f"{ADAPTER}/Ports": "Port",
    f"{MANAGER}/EthernetInterfaces": "EthernetInterface",
    f"{MANAGER}/VirtualMedia": "VirtualMedia", f"{ACCOUNTS}/Accounts": "ManagerAccount",
    f"{ACCOUNTS}/Roles": "Role", f"{SESSIONS}/Sessions": "Session",
    f"{ROOT}/UpdateService/FirmwareInventory": "SoftwareInventory",
}  # fmt: skip
FIXED: dict[str, Maker] = {
    ROOT: _root, SYSTEM: _system, CHASSIS: _chassis, MANAGER: _manager,
    f"{ROOT}/Systems": lambda _: collection(f"{ROOT}/Systems", "ComputerSystem", ["1"]),
    f"{ROOT}/Chassis": lambda _: collection(f"{ROOT}/Chassis", "Chassis", ["1"]),
    f"{ROOT}/Managers": lambda _: collection(f"{ROOT}/Managers", "Manager", ["1"]),
    f"{ROOT}/EventService/Subscriptions": lambda _: collection(
        f"{ROOT}/EventService/Subscriptions", "EventDestination", []
    ),
    f"{MANAGER}/NetworkProtocol": _protocols, f"{SYSTEM}/SecureBoot": _secure_boot,
    f"{SYSTEM}/Bios": _bios, ACCOUNTS: _account_service, SESSIONS: _session_service,
    f"{ROOT}/UpdateService": _update_service, f"{ROOT}/EventService": _event_service,
    **{path: _of_collection(path, kind) for path, kind in _KINDS.items()},
}  # fmt: skip
