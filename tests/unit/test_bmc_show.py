"""`seed bmc show`: all of it, readable, within 80 columns."""

import json
from typing import Any

import pytest

from provisioning.abilities import Abilities
from provisioning.hardware import Drive, Inventory, Neighbour, Nic
from seed.commands import bmc_show
from seed.show import Format

SEEN = Inventory(
    vendor="Maker", model="M-1", serial="S-1", cpu_count=2, cpu_threads=64, cpu_model="C 9000",
    memory_mib=262144, health="Critical", ailing=("PSU 2: Critical",), power="off",
    drives=(Drive(serial="D0", model="A drive", size_bytes=960 * 10**9, media="nvme", name="Bay 0"),
            Drive(serial="D1", size_bytes=20 * 10**12, media="hdd", name="Bay 1")),
    nics=(Nic(mac="52:54:00:00:00:01", name="eno1", link=True, speed_mbps=25000,
              neighbours=(Neighbour(switch="leaf1", port="swp18"),)),
          Nic(mac="52:54:00:00:00:02", link=False)),
)  # fmt: skip


def a_bmc(**more: Any) -> dict[str, Any]:
    """As the API answers."""
    words = (
        "address protocol state login credential vendor model serial system_uuid firmware "
        "manager_mac fingerprint node resource_class detail problem remedy seen_at maker "
        "inventory_at survey_problem survey_remedy led"
    )
    return {
        **dict.fromkeys(words.split(), ""),
        "address": "192.0.2.1", "fingerprint": "a" * 64, "macs": [], "findings": [],
        "inventory": SEEN.model_dump(mode="json"), "abilities": None, "interfaces": [],
    } | more  # fmt: skip


def printed(capsys: pytest.CaptureFixture[str], **more: Any) -> str:
    bmc_show.bmc(a_bmc(**more), Format.TABLE)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    return text


def test_a_whole_server(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(
        capsys,
        abilities=Abilities(lldp=True, boot_targets=("Pxe", "Cd")).model_dump(mode="json"),
        interfaces=[{"interface": "boot_interface", "value": "ipxe", "reason": "the wire " * 12}],
        findings=["cipher suite 0 is offered"],
    )
    for word in (
        "2 x C 9000, 64 threads", "256 GiB", "PSU 2: Critical", "960 GB", "20.0 TB", "D0",
        "leaf1:swp18", "25G", "down", "cipher suite 0", "Pxe, Cd", "ipxe",
    ):  # fmt: skip
        assert word in text


def test_one_that_never_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, inventory=Inventory().model_dump(mode="json"), maker="Dell Inc.")
    assert "as its BMC told never" in text
    assert "unknown BMC, OUI says Dell Inc." in text
    assert "DRIVES" not in text


def test_why_it_was_not_asked_since(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, survey_problem="Redfish did not answer", survey_remedy="check the cable")
    assert "not asked since: Redfish did not answer" in text
    assert "try: check the cable" in text


def test_json_is_the_answer_itself(capsys: pytest.CaptureFixture[str]) -> None:
    bmc_show.bmc(a_bmc(), Format.JSON)
    assert json.loads(capsys.readouterr().out) == a_bmc()
