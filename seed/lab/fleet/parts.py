"""Redfish resources of which a BMC has several: NICs, ports, drives, accounts (DSP0268)."""

from typing import Any

from seed.lab.fleet.bmc import PORTS_PER_SWITCH, Bmc, netmask

ROOT = "/redfish/v1"
ACCOUNTS = f"{ROOT}/AccountService"
DIMMS, DIMM_MIB, SOCKETS, CORES, DRIVES = 4, 32768, 2, 16, 2
DRIVE_BYTES = 960197124096
OK = {"State": "Enabled", "Health": "OK"}

Body = dict[str, Any]


def link(path: str) -> Body:
    return {"@odata.id": path}


def collection(path: str, kind: str, ids: list[str]) -> Body:
    members = [link(f"{path}/{i}") for i in ids]
    return {
        "@odata.type": f"#{kind}Collection.{kind}Collection",
        "@odata.id": path,
        "Name": f"{kind} Collection",
        "Members@odata.count": len(members),
        "Members": members,
    }


def resource(path: str, kind: str, **facts: Any) -> Body:
    number = path.rsplit("/", 1)[1]
    head = {"@odata.type": f"#{kind}", "@odata.id": path, "Id": number, "Name": number}
    return head | facts


def manager_nic(bmc: Bmc, path: str, number: str) -> Body:
    address = {"Address": bmc.address, "SubnetMask": netmask(bmc.address)}
    return resource(
        path, "EthernetInterface.v1_8_0.EthernetInterface", MACAddress=bmc.mac,
        PermanentMACAddress=bmc.mac, InterfaceEnabled=True, Status=OK,
        IPv4Addresses=[address | {"AddressOrigin": "DHCP"}],
    )  # fmt: skip


def nic(bmc: Bmc, path: str, number: str) -> Body:
    mac = bmc.nic_macs()[int(number) - 1]
    return resource(
        path, "EthernetInterface.v1_8_0.EthernetInterface", MACAddress=mac,
        PermanentMACAddress=mac, SpeedMbps=25000, LinkStatus="LinkUp", Status=OK,
    )  # fmt: skip


def port(bmc: Bmc, path: str, number: str) -> Body:
    """Port 1.4 and newer: what LLDP told it is in Ethernet.LLDPReceive."""
    nic = int(number) - 1
    switch, port = bmc.neighbour(nic)
    received = {
        "ChassisId": f"02:00:00:00:{bmc.number // PORTS_PER_SWITCH & 255:02x}:{nic:02x}",
        "ChassisIdSubtype": "MacAddr",
        "PortId": port,
        "PortIdSubtype": "IfName",
        "SystemName": switch,
        "ManagementVlanId": 4095,
    }
    ethernet = {"AssociatedMACAddresses": [bmc.nic_macs()[nic]], "LLDPEnabled": True}
    return resource(
        path, "Port.v1_7_0.Port", PortId=number, LinkStatus="LinkUp", CurrentSpeedGbps=25,
        LinkNetworkTechnology="Ethernet", Status=OK,
        Ethernet=ethernet | {"LLDPReceive": received},
    )  # fmt: skip


def adapter(bmc: Bmc, path: str, number: str) -> Body:
    return resource(
        path, "NetworkAdapter.v1_9_0.NetworkAdapter", Manufacturer="Mellanox", Status=OK,
        Model="ConnectX-6 Lx", SerialNumber=f"{bmc.serial}-N1", Ports=link(f"{path}/Ports"),
    )  # fmt: skip


def processor(bmc: Bmc, path: str, number: str) -> Body:
    return resource(
        path, "Processor.v1_13_0.Processor", ProcessorType="CPU", Manufacturer="Intel",
        Model="Xeon Gold 6326", ProcessorArchitecture="x86", InstructionSet="x86-64",
        TotalCores=CORES, TotalThreads=2 * CORES, Socket=f"CPU.{number}", Status=OK,
    )  # fmt: skip


def dimm(bmc: Bmc, path: str, number: str) -> Body:
    return resource(
        path, "Memory.v1_13_0.Memory", CapacityMiB=DIMM_MIB, MemoryDeviceType="DDR4",
        SerialNumber=f"{bmc.serial}-M{number}", Manufacturer="Samsung", Status=OK,
    )  # fmt: skip


def storage(bmc: Bmc, path: str, number: str) -> Body:
    drives = [link(f"{path}/Drives/{n + 1}") for n in range(DRIVES)]
    return resource(
        path, "Storage.v1_13_0.Storage", Status=OK, Drives=drives,
        **{"Drives@odata.count": DRIVES},
    )  # fmt: skip


def drive(bmc: Bmc, path: str, number: str) -> Body:
    return resource(
        path, "Drive.v1_14_0.Drive", CapacityBytes=DRIVE_BYTES, MediaType="SSD", Protocol="NVMe",
        Manufacturer="Samsung", Model="PM9A3", SerialNumber=f"{bmc.serial}-D{number}", Status=OK,
        Identifiers=[{
            "DurableName": f"0025388{bmc.number:08x}{number}", "DurableNameFormat": "EUI",
        }],
    )  # fmt: skip


def medium(bmc: Bmc, path: str, number: str) -> Body:
    actions = {
        f"#VirtualMedia.{verb}": {"target": f"{path}/Actions/VirtualMedia.{verb}"}
        for verb in ("InsertMedia", "EjectMedia")
    }
    return resource(
        path, "VirtualMedia.v1_5_0.VirtualMedia", MediaTypes=["CD", "DVD"], Image=None,
        Inserted=False, ConnectedVia="NotConnected", Actions=actions,
        TransferProtocolType=None, WriteProtected=True,
    )  # fmt: skip


def account(bmc: Bmc, path: str, number: str) -> Body:
    account = bmc.accounts[number]
    return resource(
        path, "ManagerAccount.v1_9_0.ManagerAccount", UserName=account.name, Password=None,
        RoleId=account.role, Enabled=account.enabled, Locked=False,
        Links={"Role": link(f"{ACCOUNTS}/Roles/{account.role}")},
    )  # fmt: skip


def session(bmc: Bmc, path: str, number: str) -> Body:
    return resource(path, "Session.v1_4_0.Session", UserName=bmc.sessions[number][1])


def role(bmc: Bmc, path: str, number: str) -> Body:
    return resource(path, "Role.v1_3_1.Role", RoleId=number, IsPredefined=True)
