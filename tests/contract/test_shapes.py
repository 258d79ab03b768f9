"""What BMCs may do in several ways, read over HTTPS from a fleet that does them. Needs root."""

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import provisioning.bmc
from provisioning import cabling, plugins
from provisioning.bmc import Access, BmcProtocol, Survey
from provisioning.cabling import Port, Ports
from provisioning.hardware import Neighbour
from seed.host import netns
from seed.lab.fleet.running import Control, running
from seed.lab.fleet.shapes import Shape
from seed.lab.fleet.spec import Spec
from tests.fakes.wire import ip

PASSWORD = "fleet-password"
ACCESS = Access("admin", SecretStr(PASSWORD), "mark")
PROTOCOLS: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
REDFISH = PROTOCOLS["redfish"]
DELL, HPE = "10.64.0.1", "10.64.0.128"
SYSTEM, CHASSIS = "/redfish/v1/Systems/1", "/redfish/v1/Chassis/1"

Surveyed = Callable[..., Survey]


@pytest.fixture(scope="module")
def room() -> Iterator[tuple[str, Control]]:
    name = f"seed-tsh-{os.getpid()}"
    spec = Spec(range="10.64.0.0/24", bmcs=2, password=SecretStr(PASSWORD))
    ip("netns", "add", name)
    try:
        with running(spec, name) as control:
            yield name, control
    finally:
        ip("netns", "delete", name)


@pytest.fixture
def surveyed(room: tuple[str, Control]) -> Iterator[Surveyed]:
    where, control = room

    def survey(address: str, *shapes: Shape) -> Survey:
        control.shape(address, *shapes)
        contact = netns.call(where, lambda: asyncio.run(REDFISH.probe(address, 10.0)))
        assert contact is not None
        before = control.bmc(address)
        found = netns.call(where, lambda: REDFISH.survey(contact, ACCESS, 30.0))
        after = control.bmc(address)
        assert after["logins"] - before["logins"] == 1
        assert after["sessions"] == 0
        return found

    yield survey
    for address in (DELL, HPE):
        control.shape(address)


def requests(room: tuple[str, Control], address: str, ask: Callable[[], Any]) -> int:
    before = room[1].bmc(address)["requests"]
    ask()
    return int(room[1].bmc(address)["requests"]) - before


PLAIN_PARTS = ("nics", "drives", "memory_mib", "cpu_count", "cpu_threads", "serial", "bmc_mac")


@pytest.mark.parametrize(
    "shapes",
    [
        (Shape.PAGED,),
        (Shape.CIRCLE,),
        (Shape.EXPAND,),
        (Shape.NO_EXPAND,),
        (Shape.EXPAND, Shape.PAGED),
        (Shape.EXPAND, Shape.CIRCLE),
    ],
    ids="-".join,
)
def test_the_same_server_however_it_is_told(surveyed: Surveyed, shapes: tuple[Shape, ...]) -> None:
    """Pages, pages in a circle, members inside, $expand promised and refused: nothing is lost."""
    plain, other = surveyed(HPE).inventory, surveyed(HPE, *shapes).inventory
    assert len(plain.nics) == len(plain.drives) == 2
    for part in PLAIN_PARTS:
        assert getattr(other, part) == getattr(plain, part), part


def test_expanded_takes_fewer_requests(room: tuple[str, Control], surveyed: Surveyed) -> None:
    plain = requests(room, HPE, lambda: surveyed(HPE))
    assert requests(room, HPE, lambda: surveyed(HPE, Shape.EXPAND)) < plain
    told = surveyed(HPE, Shape.NO_EXPAND)
    assert told.findings == (), "a query that it does not know after all is no weakness"
    promised = requests(room, HPE, lambda: surveyed(HPE, Shape.NO_EXPAND))
    assert promised == plain + 2, "once, and sushy repeats a GET that is answered with 5xx"


def test_ailing_parts_by_name(surveyed: Surveyed) -> None:
    told = surveyed(HPE, Shape.AILING).inventory
    assert told.health == "Critical"
    assert set(told.ailing) == {
        "DIMM A2: Critical", "Bay 1: Warning", "Fan 3: Critical", "PSU 2: Critical"
    }  # fmt: skip
    well = surveyed(HPE).inventory
    assert (well.health, well.ailing) == ("OK", ())


@pytest.mark.parametrize(
    ("shapes", "path", "name", "on", "off"),
    [
        ((), SYSTEM, "LocationIndicatorActive", True, False),
        ((Shape.OLD_LED,), CHASSIS, "IndicatorLED", "Blinking", "Off"),
    ],
    ids=["LocationIndicatorActive", "IndicatorLED"],
)
def test_the_led_that_it_has(
    room: tuple[str, Control], surveyed: Surveyed, shapes: tuple[Shape, ...], path: str, name: str,
    on: Any, off: Any,
) -> None:  # fmt: skip
    where, _ = room
    assert surveyed(HPE, *shapes).abilities.led == name
    contact = netns.call(where, lambda: asyncio.run(REDFISH.probe(HPE, 10.0)))
    assert contact is not None

    def shown() -> Any:
        with httpx.Client(verify=False, trust_env=False, auth=("admin", PASSWORD)) as web:  # noqa: S501
            return web.get(f"https://{HPE}{path}", timeout=10).json()[name]

    for state, value in ((True, on), (False, off)):
        netns.call(where, lambda state=state: REDFISH.locate(contact, ACCESS, state, 20.0))
        assert netns.call(where, shown) == value


def test_dells_serial_number_is_its_service_tag(
    room: tuple[str, Control], surveyed: Surveyed
) -> None:
    """SerialNumber is the board's: neither label nor packing list nor SMBIOS has it."""
    told = surveyed(DELL)
    assert told.inventory.vendor == "Dell Inc."
    assert told.identity.serial == told.inventory.serial == room[1].bmc(DELL)["serial"]


@pytest.mark.parametrize("shapes", [(), (Shape.PAGED,), (Shape.EXPAND,)], ids=lambda s: str(*s))
def test_dells_switches(surveyed: Surveyed, shapes: tuple[Shape, ...]) -> None:
    told = surveyed(DELL, Shape.DELL, *shapes)
    first, second = told.inventory.nics
    assert first.name == "NIC.Integrated.1-1-1"
    assert first.neighbours == (Neighbour(chassis="02:00:00:00:00:00", port="Ethernet1"),)
    assert second.neighbours == (), "no link is nobody"
    assert told.abilities.lldp


def test_who_is_no_dell_is_not_asked_as_one(surveyed: Surveyed) -> None:
    told = surveyed(HPE, Shape.DELL)
    assert [nic.neighbours for nic in told.inventory.nics] == [(), ()]


def test_a_dell_is_right_where_another_names_the_switch(surveyed: Surveyed) -> None:
    """The id alone is no switch of the plan's; who hears name and id beside it settles it."""
    dell, other = surveyed(DELL, Shape.DELL).inventory, surveyed(HPE).inventory
    planned = [Port("leaf1-a", "Ethernet1")]
    (heard,) = dell.nics[0].neighbours
    assert Ports(planned).heard(heard) is None
    beside = [n for nic in other.nics for n in nic.neighbours]
    assert Ports(planned, beside).heard(heard) == planned[0]
    assert cabling.Ports([Port("02:00:00:00:00:00", "Ethernet1")]).heard(heard) is not None
