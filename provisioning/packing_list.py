"""A vendor's packing list: which servers shall arrive, by serial number and BMC MAC.

The order of columns is free, and each may have any of the names that vendors give it. A column that
is not known is kept with the server; one that looks like another secret is left out.
"""

import re
from dataclasses import dataclass

from provisioning import tables
from provisioning.errors import Invalid
from provisioning.identity import serial_key
from provisioning.intake import Listed, listed

COLUMNS: dict[str, frozenset[str]] = {
    "serial": frozenset(
        """serial serialnumber serialno serialnr sn snr servicetag systemserial systemserialnumber
        systemsn chassisserial chassisserialnumber serverserial serverserialnumber serversn
        seriennummer""".split()
    ),
    "bmc_mac": frozenset(
        """bmcmac bmcmacaddress bmcmacaddr macbmc ipmimac ipmimacaddress idracmac idracmacaddress
        ilomac ilomacaddress xccmac xccmacaddress immmac irmcmac irmcmacaddress cimcmac oobmac
        oobmacaddress mgmtmac mgmtmacaddress managementmac managementmacaddress remotemanagementmac
        bmclanmac bmcnicmac""".split()
    ),
    "password": frozenset(
        """password passwd pwd factorypassword defaultpassword initialpassword bmcpassword bmcpwd
        ipmipassword ipmipwd idracpassword ilopassword xccpassword irmcpassword cimcpassword
        adminpassword uniquepassword bmcdefaultpassword kennwort passwort""".split()
    ),
    "username": frozenset(
        """user username login bmcuser bmcusername ipmiuser ipmiusername idracuser idracusername
        ilouser ilousername defaultuser defaultusername factoryuser benutzer""".split()
    ),
    "bmc_address": frozenset(
        """bmcip bmcaddress bmcipaddress bmcipv4 ipmiip ipmiaddress ipmiipaddress idracip
        idracaddress iloip iloaddress oobip oobaddress mgmtip mgmtaddress managementip
        managementaddress""".split()
    ),
    "system_uuid": frozenset("uuid systemuuid smbiosuuid".split()),
    "name": frozenset("name hostname nodename host".split()),
    "resource_class": frozenset("resourceclass class".split()),
    "vendor": frozenset("vendor manufacturer make brand hersteller".split()),
    "model": frozenset(
        "model modelname product productname productdescription servermodel modell".split()
    ),
    "asset_tag": frozenset(
        "assettag asset assetno assetnumber assetid inventorynumber inventoryno".split()
    ),
}
_FACTS = ("vendor", "model", "asset_tag")
_NIC = re.compile(
    r"mac|macs|macaddress|macaddresses|(nic|eth|lan|port|net|los?m)\d*mac(address)?\d*"
)
_SECRET = re.compile(r"pass|pwd|secret|kennwort|token|privatekey")


@dataclass(frozen=True, slots=True)
class PackingList:
    """servers: one per row. ignored: columns that are not kept, because they look like secrets."""

    servers: list[Listed]
    ignored: list[str]


def read(body: bytes, username: str = "") -> PackingList:
    """Every server of the list. All or nothing: raises Invalid, naming the first bad row.

    username: for rows that have a password and no user name.
    """
    headings, rows = tables.read(body, _is_heading, lambda h: _meant(h) == "password")
    means = {h: _meant(h) for h in headings if h}
    _once(means)
    servers = [_server(row, means, username) for row in rows]
    if not servers:
        raise Invalid("there is no row below the headings", "Export the list again.")
    _distinct(servers)
    return PackingList(servers, [h for h, what in means.items() if what == "secret"])


def _is_heading(cells: list[str]) -> bool:
    return bool({"serial", "bmc_mac"} & {_meant(c) for c in cells if c})


def _meant(heading: str) -> str:
    """Which of COLUMNS this is; "macs" for NICs, "secret" for what is not kept, else empty."""
    word = re.sub(r"[^a-z0-9]", "", heading.casefold())
    for name, words in COLUMNS.items():
        if word in words:
            return name
    if _NIC.fullmatch(word):
        return "macs"
    return "secret" if _SECRET.search(word) else ""


def _once(means: dict[str, str]) -> None:
    for name in COLUMNS:
        twice = [h for h, what in means.items() if what == name]
        if len(twice) > 1:
            raise Invalid(
                f"the columns {twice[0]!r} and {twice[1]!r} both mean the {name.replace('_', ' ')}",
                "Rename the one that does not.",
            )


def _server(row: tables.Row, means: dict[str, str], username: str) -> Listed:
    said: dict[str, str] = {}
    facts: dict[str, str] = {}
    macs: list[str] = []
    for heading, cell in row.cells.items():
        match means[heading]:
            case "macs":
                macs += re.split(r"[\s,;|/]+", cell)
            case "secret":
                pass
            case "":
                facts[heading] = cell
            case name if name in _FACTS:
                facts[name] = cell
            case name:
                said[name] = cell
    if "password" in said:
        said.setdefault("username", username)
    server = listed(f"row {row.number}", {**said, "macs": macs, "facts": facts})
    if not (serial_key(server.serial) or server.bmc_mac):
        raise Invalid(
            f"row {row.number} has neither a serial number nor a BMC MAC",
            "Fill one of them in: by these a server is known when it arrives.",
        )
    return server


def _distinct(servers: list[Listed]) -> None:
    for what in ("serial", "bmc_mac"):
        seen: dict[str, str] = {}
        for server in servers:
            value = getattr(server, what)
            key = serial_key(value) if what == "serial" else value
            if key and key in seen:
                raise Invalid(
                    f"{server.where}: the {what.replace('_', ' ').replace('bmc mac', 'BMC MAC')} "
                    f"{value} is that of {seen[key]}, too",
                    "Each server stands in the list once: correct one of the two rows.",
                )
            seen[key] = server.where
