"""A plan from NetBox, and what was found back to it, by pynetbox over HTTP. No real NetBox."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from provisioning import rack_file, rack_plan
from provisioning.errors import SeedError
from seed import netbox
from seed.cli import app
from tests.fakes.netbox import TOKEN, NetBoxDouble, netbox_double


def device(number: int, serial: str, unit: float | None, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"srv{number}",
        "serial": serial,
        "role": {"id": 1, "name": "Server", "slug": "server"},
        "site": {"id": 1, "name": "Amsterdam 1", "slug": "ams1"},
        "location": {"id": 1, "name": "Row B", "slug": "row-b"},
        "rack": {"id": 1, "name": "Rack 3"},
        "position": unit,
        "status": {"value": "active", "label": "Active"},
        "device_type": {"id": 7, "model": "LS-100", "slug": "ls-100"},
        "custom_fields": {name: None for name in netbox.FIELDS},
    } | more


def interface(number: int, owner: int, name: str, end: str = "", **more: Any) -> dict[str, Any]:
    switch, _, port = end.partition(":")
    far = {"id": 900 + number, "device": {"id": 99, "name": switch}, "name": port}
    return {
        "id": number,
        "device": {"id": owner, "name": f"srv{owner}"},
        "name": name,
        "mac_address": None,
        "mgmt_only": False,
        "connected_endpoints": [far] if end else None,
    } | more


@pytest.fixture
def box() -> Iterator[NetBoxDouble]:
    tables = {
        "/api/dcim/devices/": [
            device(1, "SN-1", 17.0),
            device(2, "SN-2", 18.0, device_type={"id": 8, "model": "LS-200", "slug": "ls-200"}),
            device(3, "SN-3", None),
            device(4, "SW-1", 42.0, role={"id": 2, "name": "Leaf", "slug": "leaf"}),
            device(5, "SN-5", 20.0, status={"value": "decommissioning", "label": "x"}),
        ],
        "/api/dcim/device-types/": [{"id": 7, "u_height": 1.0}, {"id": 8, "u_height": 2.0}],
        "/api/dcim/interfaces/": [
            interface(1, 1, "bmc", mgmt_only=True, mac_address="52:54:00:00:00:0A"),
            interface(2, 1, "eno1", "leaf1:Ethernet17", mac_address="52:54:00:00:00:01"),
            interface(3, 1, "eno2", "leaf2:Ethernet17"),
            interface(4, 1, "bond0"),
            interface(5, 2, "eno1", "leaf1:Ethernet18",
                      primary_mac_address={"id": 3, "mac_address": "52:54:00:00:00:02"}),
        ],
    }  # fmt: skip
    with netbox_double(tables) as double:
        yield double


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


def words(box: NetBoxDouble, token: Path, *more: str) -> list[str]:
    return ["--url", box.url, "--token-file", str(token), "--role", "server", *more]


def test_a_plan_is_pulled_and_can_be_imported(
    box: NetBoxDouble, token: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    done = CliRunner().invoke(
        app, ["rack", "netbox", "pull", *words(box, token, "--to", str(plan), "--site", "ams1")]
    )
    assert done.exit_code == 0, done.output
    planned = rack_file.read(plan.read_bytes(), "yaml")
    rack_plan.check(planned)
    first, second = (place for _, place in planned)
    assert (str(first.rack), first.unit, first.height) == ("ams1/row-b/Rack-3", 17, 1)
    assert (first.serial, first.bmc_mac) == ("SN-1", "52:54:00:00:00:0a")
    assert {nic: str(port) for nic, port in first.ports.items()} == {
        "52:54:00:00:00:01": "leaf1:Ethernet17", "eno2": "leaf2:Ethernet17",
    }  # fmt: skip
    assert (second.height, [*second.ports]) == (2, ["52:54:00:00:00:02"])
    assert box.writes == []
    assert not any(TOKEN in asked.path for asked in box.double.asked)


def report(*slots: tuple[int, str, str, str]) -> dict[str, Any]:
    made = [
        {"slot": f"Rack-3u{u}", "unit": u, "verdict": v, "holds": h, "address": a}
        for u, v, h, a in slots
    ]
    return {"racks": [{"rack": "ams1/row-b/Rack-3", "slots": made}]}


FOUND = report((17, "right", "SN-1", "10.0.0.1"), (18, "wrong", "SN-9", "10.0.0.2"))


def test_what_was_found_is_shown_and_written_only_when_asked(box: NetBoxDouble) -> None:
    there = netbox.NetBox(box.url, TOKEN)
    try:
        changes, missing = netbox.differences(there.devices(["server"]), FOUND)
        assert missing == []
        assert [(c.device, c.field, c.netbox, c.seed) for c in changes[:4]] == [
            ("srv1", "seed_verdict", "", "right"),
            ("srv1", "seed_serial", "", "SN-1"),
            ("srv1", "seed_bmc", "", "10.0.0.1"),
            ("srv2", "seed_verdict", "", "wrong"),
        ]
        assert box.writes == []
        there.write(changes)
        assert [asked.method for asked in box.writes] == ["PATCH"]
        assert netbox.differences(there.devices(["server"]), FOUND) == ([], [])
    finally:
        there.close()


def test_fields_that_netbox_has_not_are_named(box: NetBoxDouble) -> None:
    for row in box.tables["/api/dcim/devices/"]:
        row["custom_fields"] = {}
    there = netbox.NetBox(box.url, TOKEN)
    try:
        assert netbox.differences(there.devices(["server"]), FOUND)[1] == sorted(netbox.FIELDS)
    finally:
        there.close()


def test_a_wrong_token_is_one_sentence_without_the_token(box: NetBoxDouble) -> None:
    there = netbox.NetBox(box.url, "not-the-token")
    try:
        with pytest.raises(SeedError, match="answered 403") as refused:
            there.devices(["server"])
    finally:
        there.close()
    assert "not-the-token" not in str(refused.value) + refused.value.remedy


@pytest.mark.parametrize("body", [b"<html>", b'{"results": 7}', b'{"results": [7], "count": 1}'])
def test_what_is_no_netbox_is_one_sentence(box: NetBoxDouble, body: bytes) -> None:
    box.double.answer = lambda asked: (200, {}, body)
    there = netbox.NetBox(box.url, TOKEN)
    try:
        with pytest.raises(SeedError, match="NetBox at "):
            there.devices(["server"])
    finally:
        there.close()


def test_a_token_is_sent_over_tls_only() -> None:
    with pytest.raises(SeedError, match="is not an https address"):
        netbox.NetBox("http://192.0.2.9", TOKEN)
