"""What a MAC boots, and the scripts for it."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from ipxe import dnsmasq, render
from ipxe.bootspec import (
    BootSpec,
    Chain,
    LocalDisk,
    Nothing,
    Ramdisk,
    Standing,
    choose,
    discovery,
)
from ipxe.methods.ipxe import PLUGIN
from ipxe.service import WHOLE_SECONDS, BootFiles
from provisioning.errors import Invalid
from provisioning.wire import WireState

GOLDEN = Path(__file__).parents[1] / "golden" / "ipxe"
URL = "http://172.22.0.1"
MAC = "52:54:00:22:00:01"
RAMDISK = discovery(URL, "https://172.22.0.1", "console=tty0 console=ttyS0,115200n8")
CHAIN = Chain(f"{URL}/ironic/pxelinux.cfg/52-54-00-22-00-01")


@pytest.mark.parametrize(
    ("standing", "unknown", "then"),
    [
        pytest.param(Standing.ORDERED, None, CHAIN, id="an open order goes on with Ironic's file"),
        pytest.param(Standing.IDLE, RAMDISK, LocalDisk(), id="a node without order boots its disk"),
        pytest.param(Standing.UNKNOWN, None, Nothing(), id="a stranger gets nothing"),
        pytest.param(Standing.UNKNOWN, RAMDISK, RAMDISK, id="a stranger is discovered if wanted"),
    ],
)
def test_choice(standing: Standing, unknown: Ramdisk | None, then: BootSpec) -> None:
    assert choose(standing, MAC, URL, unknown) == then


@pytest.mark.parametrize(
    ("name", "spec"),
    [("nothing", Nothing()), ("disk", LocalDisk()), ("chain", CHAIN), ("ramdisk", RAMDISK)],
)
def test_scripts_are_the_golden_ones(name: str, spec: BootSpec) -> None:
    assert PLUGIN.script(spec) == (GOLDEN / f"{name}.ipxe").read_text(encoding="utf-8")


def test_bmcs_lease_addresses_and_nothing_to_boot() -> None:
    pool = dnsmasq.BmcPool(
        "oob0",
        IPv4Interface("172.22.1.1/24"),
        IPv4Address("172.22.1.100"),
        IPv4Address("172.22.1.199"),
    )
    text = dnsmasq.render(a_dhcp(bmcs=pool))
    assert text == (GOLDEN / "dnsmasq-bmcs.conf").read_text(encoding="utf-8")
    boots = [line for line in text.splitlines() if line.startswith("dhcp-boot=")]
    assert all(line.startswith("dhcp-boot=tag:!bmcs,") for line in boots)
    assert "enable-tftp=prov0" in text


def test_first_script_is_the_golden_one() -> None:
    assert render.render_first(URL) == (GOLDEN / "boot.ipxe").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "bad",
    [
        "http://x/a b",
        "http://x/a;b",
        "http://x/${a}",
        "http://x/a\nshell",
        "http://x/a||shell",
        "http://u:p@x/a",
        "ftp://x/a",
        "tftp://x/a",
        "http:///a",
        "",
        "http://x/a\n",
    ],
)
def test_a_url_that_could_be_a_command_is_refused(bad: str) -> None:
    for make in (Chain, lambda u: Ramdisk(u, (u,)), lambda u: Ramdisk(f"{URL}/k", (u,))):
        with pytest.raises(Invalid):
            make(bad)
    with pytest.raises(Invalid):
        render.render_first(bad)


@pytest.mark.parametrize(
    "bad", ["a b", "a;b", "a=${b}", "a\nb", "a=b\n", "-x", "", "a=b||c", "'a'"]
)
def test_an_argument_that_could_be_a_command_is_refused(bad: str) -> None:
    with pytest.raises(Invalid):
        Ramdisk(f"{URL}/k", (f"{URL}/i",), (bad,))


@pytest.mark.parametrize(
    "bad", ["52:54:00:22:00", "52-54-00-22-00-01", "52:54:00:22:00:0G", "../../etc", f"{MAC}\n", ""]
)
def test_a_file_is_only_ever_written_for_a_mac(bad: str, tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    with pytest.raises(Invalid):
        render.write_boot_file(tmp_path, bad, LocalDisk())
    with pytest.raises(Invalid):
        render.remove_boot_file(tmp_path, bad)
    with pytest.raises(Invalid):
        dnsmasq.write_host(tmp_path, bad, IPv4Address("172.22.0.9"), "a")
    assert list(tmp_path.rglob("*")) == [tmp_path / "boot"]


def test_boot_files_come_change_and_go(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    path = tmp_path / "boot" / "52-54-00-22-00-01"
    render.write_boot_file(tmp_path, MAC, CHAIN)
    assert path.read_text(encoding="utf-8") == render.render(CHAIN)
    before = path.stat()
    render.write_boot_file(tmp_path, MAC, CHAIN)
    assert path.stat().st_ino == before.st_ino, "unchanged files are left alone"
    render.write_boot_file(tmp_path, MAC, LocalDisk())
    assert path.read_text(encoding="utf-8") == render.render(LocalDisk())
    assert path.stat().st_mode & 0o777 == 0o644
    render.remove_boot_file(tmp_path, MAC)
    render.remove_boot_file(tmp_path, MAC)
    assert list((tmp_path / "boot").iterdir()) == []


def test_atomic_write_follows_no_symlink(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched", encoding="utf-8")
    (tmp_path / "file").symlink_to(victim)
    render.write_atomic(tmp_path / "file", "new")
    assert victim.read_text(encoding="utf-8") == "untouched"
    assert not (tmp_path / "file").is_symlink()


def a_dhcp(**changes: object) -> dnsmasq.Dhcp:
    values: dict[str, object] = {
        "interface": "prov0",
        "address": IPv4Interface("172.22.0.1/24"),
        "unknown_start": IPv4Address("172.22.0.206"),
        "unknown_end": IPv4Address("172.22.0.254"),
        "boot_url": URL,
        "hosts_dir": Path("/var/lib/seed/dnsmasq/hosts.d"),
        "lease_file": Path("/var/lib/seed/dnsmasq/leases"),
        "tftp_dir": Path("/var/lib/seed/tftp"),
    }
    return dnsmasq.Dhcp(**(values | changes))  # type: ignore[arg-type]


BEHIND = tuple(
    dnsmasq.RelayedPool(
        IPv4Network(f"10.{n}.0.0/24"),
        IPv4Address(f"10.{n}.0.1"),
        IPv4Address(f"10.{n}.0.200"),
        IPv4Address(f"10.{n}.0.220"),
    )
    for n in (3, 4)
)


@pytest.mark.parametrize(
    ("name", "dhcp"),
    [
        ("dnsmasq", a_dhcp()),
        ("dnsmasq-router", a_dhcp(router=IPv4Address("172.22.0.254"))),
        ("dnsmasq-relayed", a_dhcp(relayed=BEHIND)),
    ],
)
def test_dnsmasq_conf_is_the_golden_one(name: str, dhcp: dnsmasq.Dhcp) -> None:
    assert dnsmasq.render(dhcp) == (GOLDEN / f"{name}.conf").read_text(encoding="utf-8")


def test_an_interface_name_cannot_add_a_line() -> None:
    with pytest.raises(Invalid):
        a_dhcp(interface="prov0\ndhcp-script=/bin/sh")


@pytest.mark.parametrize("bad", ["a,b", "A", "a b", "-a", "a\n", "", "a" * 64])
def test_a_host_name_is_one_label(bad: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        dnsmasq.write_host(tmp_path, MAC, IPv4Address("172.22.0.9"), bad)


def test_a_reservation_is_one_file(tmp_path: Path) -> None:
    dnsmasq.write_host(tmp_path, MAC, IPv4Address("172.22.0.11"), "node-1")
    path = tmp_path / "52-54-00-22-00-01"
    assert path.read_text(encoding="utf-8") == "52:54:00:22:00:01,172.22.0.11,node-1\n"
    dnsmasq.remove_host(tmp_path, MAC)
    dnsmasq.remove_host(tmp_path, MAC)
    assert list(tmp_path.iterdir()) == []


HOSTS = {f"52:54:00:22:00:{n:02x}": (f"172.22.0.{n}", f"r1u{n}") for n in range(1, 5)}


@pytest.fixture
def files(tmp_path: Path) -> BootFiles:
    for name in ("http/boot", "hosts"):
        (tmp_path / name).mkdir(parents=True)
    return BootFiles(tmp_path / "http", tmp_path / "hosts", URL, RAMDISK)


def _served(files: BootFiles) -> dict[str, str]:
    folders = (files.hosts_dir, files.http_dir / "boot")
    return {f"{f.name}/{p.name}": p.read_text() for f in folders for p in f.iterdir()}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (WireState(), WireState(HOSTS)),
        (WireState(HOSTS), WireState(HOSTS, frozenset([MAC]))),
        (WireState(HOSTS, frozenset([MAC])), WireState(HOSTS)),
        (WireState(HOSTS), WireState({**HOSTS, MAC: ("172.22.0.99", "other")})),
        (WireState(HOSTS, frozenset([MAC])), WireState(inspect_unknown=True)),
        (WireState(booting=frozenset(HOSTS)), WireState({MAC: HOSTS[MAC]})),
    ],
)
def test_a_change_serves_what_a_new_start_would(
    files: BootFiles, before: WireState, after: WireState
) -> None:
    files.serve(before)
    files.serve(after)
    told = _served(files)
    BootFiles(files.http_dir, files.hosts_dir, URL, RAMDISK).serve(after)
    assert told == _served(files)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    told = [1000.0]
    monkeypatch.setattr("ipxe.service.time.monotonic", lambda: told[0])
    return told


def test_files_are_compared_now_and_then_only_and_a_lost_one_comes_back(
    files: BootFiles, clock: list[float]
) -> None:
    files.serve(WireState(HOSTS))
    whole = _served(files)
    (files.hosts_dir / MAC.replace(":", "-")).unlink()
    (files.http_dir / "boot" / "stray").write_text("old")
    files.serve(WireState(HOSTS))
    assert _served(files) != whole, "thousands of files are not read twice a second"
    clock[0] += WHOLE_SECONDS + 1
    files.serve(WireState(HOSTS))
    assert _served(files) == whole


def test_a_file_that_was_altered_is_seen_without_reading_those_that_were_not(
    files: BootFiles, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    files.serve(WireState(HOSTS))
    whole = _served(files)
    served: list[str] = []
    real = files._serve_one
    monkeypatch.setattr(files, "_serve_one", lambda mac, w: (served.append(mac), real(mac, w)))
    clock[0] += WHOLE_SECONDS + 1
    files.serve(WireState(HOSTS))
    assert served == []
    (files.http_dir / "boot" / MAC.replace(":", "-")).write_text("#!ipxe\nshell\n")
    clock[0] += WHOLE_SECONDS + 1
    files.serve(WireState(HOSTS))
    assert (served, _served(files)) == ([MAC], whole)
