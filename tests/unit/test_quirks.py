"""Quirks and the choice of Ironic's interfaces."""

import re
from pathlib import Path

import pytest

from provisioning import interfaces, quirks
from provisioning.abilities import Abilities
from provisioning.hardware import Inventory
from provisioning.oui import maker

TEMPLATE = Path(__file__).resolve().parents[2] / "seed/host/templates/ironic.conf"
MEDIA = Abilities(virtual_media=True, boot_mode=True)


@pytest.mark.parametrize("quirk", quirks.table(), ids=lambda q: q.name)
def test_rows_are_sound(quirk: quirks.Quirk) -> None:
    assert quirk.abilities or quirk.reads
    assert set(quirk.abilities) <= set(Abilities.model_fields)
    quirks.Reads.model_validate(quirk.reads)
    Abilities.model_validate(quirk.abilities)
    assert quirk.source
    re.compile(quirk.vendor)
    re.compile(quirk.model)


def test_names_are_used_once() -> None:
    names = [quirk.name for quirk in quirks.table()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("vendor", "version", "media"),
    [
        ("Dell Inc.", "5.10.50.00", False),
        ("Dell Inc.", "6.00.00.00", True),
        ("Dell Inc.", "7.10.70.00", True),
        ("Dell Inc.", "1.20.25.00", False),
        ("Dell Inc.", "", True),
        ("Delluxe", "5.0", True),
        ("HPE", "5.0", True),
    ],
)
def test_dell_media(vendor: str, version: str, media: bool) -> None:
    told = quirks.applied(MEDIA, Inventory(vendor=vendor, bmc_version=version))
    assert told.virtual_media is media
    assert bool(told.quirks) is not media


def test_gen9_cannot_set_the_boot_mode() -> None:
    seen = Inventory(vendor="HPE", model="ProLiant DL360 Gen9")
    assert not quirks.applied(MEDIA, seen).boot_mode
    assert quirks.applied(MEDIA, Inventory(vendor="HPE", model="ProLiant DL360 Gen10")).boot_mode


@pytest.mark.parametrize(
    ("text", "parts"),
    [("iDRAC 6.10.30.00", (6, 10, 30, 0)), ("iLO 5 v2.98", (5,)), ("", ()), ("x" * 300, ())],
)
def test_versions(text: str, parts: tuple[int, ...]) -> None:
    assert quirks.numbers(text) == parts


ALL = Abilities(boot_targets=("Pxe",), bios=True, updates=True, virtual_media=True, uefi_http=True)


@pytest.mark.parametrize("driver", ["redfish", "ipmi"])
@pytest.mark.parametrize("abilities", [None, Abilities(), ALL], ids=["unknown", "none", "all"])
def test_every_choice_is_enabled_in_our_ironic(driver: str, abilities: Abilities | None) -> None:
    text = TEMPLATE.read_text()
    for choice in interfaces.choose(driver, abilities):
        enabled = re.search(rf"^enabled_{choice.interface}s = (.*)$", text, re.MULTILINE)
        assert enabled, choice
        assert choice.value in re.split(r"[,{]", enabled[1]), choice
        assert choice.reason


def values(driver: str, abilities: Abilities | None) -> dict[str, str]:
    return {c.interface: c.value for c in interfaces.choose(driver, abilities)}


def test_nobody_gets_a_passthru() -> None:
    for driver in ("redfish", "ipmi"):
        assert values(driver, ALL)["vendor_interface"] == "no-vendor"


def test_services_that_a_bmc_lacks_are_not_asked_for() -> None:
    assert values("redfish", ALL)["bios_interface"] == "redfish"
    lacking = values("redfish", Abilities())
    assert (lacking["bios_interface"], lacking["firmware_interface"]) == ("no-bios", "no-firmware")
    assert "bios_interface" not in values("redfish", None), "not asked yet: Ironic's own choice"


def test_other_hardware_types_keep_ironics_choice() -> None:
    assert interfaces.choose("fake-hardware", ALL) == ()


def test_a_bmc_that_cannot_pxe_is_named() -> None:
    told = {
        c.interface: c.reason
        for c in interfaces.choose("redfish", Abilities(boot_targets=("Hdd",)))
    }
    assert "does not list Pxe" in told["boot_interface"]


@pytest.mark.parametrize(
    ("mac", "name"), [("d0:94:66:00:00:01", "Dell"), ("52:54:00:00:00:01", ""), ("", ""), ("x", "")]
)
def test_makers(mac: str, name: str) -> None:
    assert maker(mac).startswith(name)
    assert bool(maker(mac)) is bool(name)
