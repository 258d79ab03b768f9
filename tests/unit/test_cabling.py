"""One port by many names; and whose word counts when two sources tell of one NIC."""

import pytest

from provisioning import cabling
from provisioning.cabling import Jack, Port, Ports
from provisioning.hardware import Neighbour, Nic
from tests.fakes.room import ago, nic, told

PLAN = Ports([Port("leaf1", "18"), Port("leaf2", "Ethernet1/18"), Port("02:00:5e:00:00:01", "7")])


@pytest.mark.parametrize(
    ("switch", "port", "description", "planned"),
    [
        ("leaf1", "18", "", "leaf1:18"),
        ("LEAF1.example.net", "swp18", "", "leaf1:18"),
        ("leaf1", "Ethernet18", "to r3u17", "leaf1:18"),
        ("leaf1", "02:00:5e:00:00:18", "Ethernet 18", "leaf1:18"),
        ("leaf2", "Eth1/18", "", "leaf2:Ethernet1/18"),
        ("02-00-5E-00-00-01", "port 7", "", "02:00:5e:00:00:01:7"),
        ("leaf1", "118", "", "leaf1:118"),
        ("leaf1", "1/18", "", "leaf1:1/18"),
        ("leaf11", "18", "", "leaf11:18"),
        ("leaf2", "Te1/18", "", "leaf2:Te1/18"),
        ("", "18", "", "?:18"),
    ],
)
def test_a_port_is_known_by(switch: str, port: str, description: str, planned: str) -> None:
    heard = PLAN.heard(Neighbour(switch=switch, port=port, description=description))
    assert str(heard) == planned


@pytest.mark.parametrize(
    ("chassis", "named"),
    [
        ("02:00:5e:00:00:09", "leaf1:18"),
        ("02-00-5E-00-00-09", "leaf1:18"),
        ("02:00:5e:00:00:01", "None"),
        ("02:00:5e:00:00:99", "None"),
    ],
)
def test_a_switch_by_its_chassis_id_alone(chassis: str, named: str) -> None:
    """Some BMCs tell no more of it. No cable is called wrong for that."""
    beside = [Neighbour(switch="leaf1", chassis="02:00:5e:00:00:09", port="5"), Neighbour()]
    ports = Ports([Port("leaf1", "18"), Port("02:00:5e:00:00:01", "7")], beside)
    assert str(ports.heard(Neighbour(chassis=chassis, port="Eth18"))) == named
    by_id = ports.heard(Neighbour(chassis="02:00:5e:00:00:01", port="Eth7"))
    assert str(by_id) == "02:00:5e:00:00:01:7", "planned by its id"


def test_a_neighbour_without_a_name_is_nothing() -> None:
    assert PLAN.heard(Neighbour(switch="leaf1")) is None


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("leaf1:18", Port("leaf1", "18")),
        (" leaf1 : Ethernet1/18 ", Port("leaf1", "Ethernet1/18")),
        ("leaf1:1:2", Port("leaf1", "1:2")),
        ("02:00:5e:00:00:01:7", Port("02:00:5e:00:00:01", "7")),
        ("leaf1", None),
        ("leaf1:", None),
        (":18", None),
    ],
)
def test_a_port_is_written(text: str, port: Port | None) -> None:
    assert cabling.parse(text) == port


MAC = "02:00:00:00:00:01"


def seen(*sources: tuple[str, Nic, int, str]) -> Jack:
    (jack,) = cabling.jacks([told(s, [n], m, power) for s, n, m, power in sources], PLAN)
    return jack


def test_the_newer_source_wins_and_says_what_it_overrules() -> None:
    in_band = ("in band", nic(MAC, "leaf1:18", "eno1"), 60, "on")
    out_of_band = ("out of band", nic(MAC, "leaf1:19", "NIC.1"), 2, "off")
    for sources in ((in_band, out_of_band), (out_of_band, in_band)):
        jack = seen(*sources)
        assert (jack.port, jack.at) == (Port("leaf1", "19"), ago(2))
        assert jack.evidence == "LLDP out of band; overrules in band, older: leaf1:18"
        assert jack.names == {"eno1", "nic.1"}


def test_a_newer_source_that_knows_nothing_of_cables_overrules_nobody() -> None:
    jack = seen(
        ("in band", nic(MAC, "leaf1:18"), 60, "on"), ("out of band", nic(MAC, link=True), 2, "on")
    )
    assert (jack.port, jack.evidence) == (Port("leaf1", "18"), "LLDP in band")


def test_a_newer_dead_link_overrules() -> None:
    jack = seen(
        ("in band", nic(MAC, "leaf1:18"), 60, "on"), ("out of band", nic(MAC, link=False), 2, "on")
    )
    assert (jack.port, jack.link) == (None, False)
    assert jack.overruled == "overrules in band, older: leaf1:18"


def test_a_dead_link_without_power_says_nothing() -> None:
    jack = seen(
        ("in band", nic(MAC, "leaf1:18"), 60, "on"), ("out of band", nic(MAC, link=False), 2, "off")
    )
    assert jack.port == Port("leaf1", "18")
    assert seen(("out of band", nic(MAC, link=False), 2, "off")).link is None


def test_what_a_nic_heard_before_the_power_went_counts_and_not_before_the_cable_went() -> None:
    nic_ = nic(MAC, "leaf1:18", link=False)
    assert seen(("out of band", nic_, 2, "off")).port == Port("leaf1", "18")
    assert seen(("out of band", nic_, 2, "on")).port is None


def test_of_several_neighbours_the_planned_one_counts() -> None:
    both = (Neighbour(switch="phone", port="1"), Neighbour(switch="leaf1", port="swp18"))
    assert seen(("in band", Nic(mac=MAC, neighbours=both), 1, "on")).port == Port("leaf1", "18")


def test_nics_are_counted_as_the_bmc_names_them_then_what_only_the_ramdisk_knows() -> None:
    bmc = [nic("02:00:00:00:00:0a", name="NIC.10"), nic("02:00:00:00:00:0b", name="NIC.2")]
    ramdisk = [nic(f"02:00:00:00:00:0{d}", name=f"eno{d}") for d in "abc"]
    for sources in ((told("out of band", bmc, 9), told("in band", ramdisk, 1)),
                    (told("in band", ramdisk, 9), told("out of band", bmc, 1))):  # fmt: skip
        order = [jack.mac[-2:] for jack in cabling.jacks(sources, PLAN)]
        assert order == ["0b", "0a", "0c"]
