"""Servers nobody knows that boot the ramdisk: seen where that is wanted, within limits."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from api.gateway import create_gateway
from api.parts import Parts
from ipxe.bootspec import discovery
from ipxe.service import BootFiles
from provisioning import unknown
from provisioning.models import now
from provisioning.room import Observation
from provisioning.wire import WireState
from tests.fakes.api import IronicDouble, ironic_double, some_parts

SOURCE = "172.22.0.222"
TLVS = [[1, "040c42a1000001"], [2, "05" + b"Ethernet7".hex()], [5, b"leaf1".hex()]]


def document(number: int = 1, **inventory: Any) -> dict[str, Any]:
    nic = {"name": "eno1", "mac_address": f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"}
    told = {
        "interfaces": [nic], "bmc_address": "10.0.0.5", "bmc_mac": "52:54:00:bb:00:01",
        "system_vendor": {"serial_number": f"SER{number}", "product_name": "R750"},
    }  # fmt: skip
    return {"inventory": told | inventory, "lldp_raw": {"eno1": TLVS}, "error": None}


@pytest.fixture
def ironic() -> Iterator[IronicDouble]:
    with ironic_double() as double:
        yield double


@pytest.fixture
def parts(tmp_path: Path, ironic: IronicDouble) -> Parts:
    return replace(some_parts(tmp_path, ironic.url), discovery_ramdisk=True)


def post(parts: Parts, body: Any) -> Any:
    with TestClient(create_gateway(parts)) as http:
        return http.post(
            "/v1/continue_inspection", content=json.dumps(body), headers={"X-Real-IP": SOURCE}
        )


def rows(parts: Parts) -> list[Observation]:
    with parts.store.read() as session:
        return list(session.exec(select(Observation).order_by(Observation.key)))


def test_an_unknown_server_is_seen_and_ironic_is_not_asked(
    parts: Parts, ironic: IronicDouble
) -> None:
    answer = post(parts, document())
    assert (answer.status_code, answer.json()) == (200, {})
    (row,) = rows(parts)
    assert (row.source, row.serial, row.bmc_mac, row.bmc_address) == (
        "ramdisk", "SER1", "52:54:00:bb:00:01", "10.0.0.5"
    )  # fmt: skip
    assert row.facts["nics"][0]["neighbours"] == [
        {"switch": "leaf1", "chassis": "0c:42:a1:00:00:01", "port": "Ethernet7"}
    ]
    assert (row.macs, row.origin) == (["52:54:00:00:00:01"], SOURCE)
    assert ironic.asked == []


def test_without_the_setting_nobody_is_let_in(parts: Parts) -> None:
    assert post(replace(parts, discovery_ramdisk=False), document()).status_code == 404
    assert rows(parts) == []


def test_who_repeats_itself_is_one_row_written_once_a_minute(parts: Parts) -> None:
    post(parts, document())
    first = rows(parts)[0].seen_at
    assert post(parts, document()).status_code == 200
    assert rows(parts)[0].seen_at == first
    with parts.store.write() as session:
        row = session.exec(select(Observation)).one()
        row.seen_at = now() - timedelta(minutes=2)
    post(parts, document(bmc_address="10.0.0.6"))
    assert [r.bmc_address for r in rows(parts)] == ["10.0.0.6"]


def test_a_liar_fills_so_many_rows_and_no_more(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown, "NEW_PER_HOUR", 3)
    monkeypatch.setattr(unknown, "MOST", 5)
    noted = [unknown.note(parts.store, document(n), SOURCE) for n in range(1, 6)]
    assert noted == [True] * 3 + [False] * 2
    with parts.store.write() as session:
        for row in session.exec(select(Observation)):
            row.found_at = now() - timedelta(hours=2)
    noted = [unknown.note(parts.store, document(n), SOURCE) for n in range(4, 8)]
    assert noted == [True, True, False, False]
    assert post(parts, document(99)).status_code == 200, "the ramdisk need not know"


def test_each_row_is_small(parts: Parts) -> None:
    drives = [{"name": "x" * 200, "serial": "y" * 200, "model": "z" * 200}] * 500
    assert post(parts, document(disks=drives)).status_code == 200
    (row,) = rows(parts)
    assert len(json.dumps(row.facts)) < unknown.MAX_FACTS
    assert (row.serial, row.facts["model"]) == ("SER1", "R750")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"inventory": {"interfaces": []}}, 400),
        ({"inventory": {"interfaces": [{"mac_address": "nonsense"}]}}, 200),
        ({"inventory": {"interfaces": [{"mac_address": "01:00:5e:00:00:01"}]}}, 200),
        ([1], 400),
    ],
)
def test_nonsense_is_no_row(parts: Parts, body: Any, status: int) -> None:
    assert post(parts, body).status_code == status
    assert rows(parts) == []


def test_a_placeholder_for_a_serial_is_none(parts: Parts) -> None:
    post(parts, document(system_vendor={"serial_number": "Default string"}))
    assert rows(parts)[0].serial == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_strangers_boot_the_ramdisk_only_where_that_is_wanted(tmp_path: Path, wanted: bool) -> None:
    for name in ("http/boot", "hosts"):
        (tmp_path / name).mkdir(parents=True)
    ramdisk = discovery("http://172.22.0.1", "https://172.22.0.1", "quiet")
    files = BootFiles(tmp_path / "http", tmp_path / "hosts", "http://172.22.0.1", ramdisk, wanted)
    files.serve(WireState())
    script = (tmp_path / "http" / "boot" / "default").read_text()
    assert ("continue_inspection" in script) == wanted
