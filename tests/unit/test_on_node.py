"""The script on the node against what the kernel's tools print; recorded, the shapes are theirs.

`ip -j -d address` of iproute2 6.15, `lsblk -J -b` of util-linux 2.41, as Debian 13 has them.
"""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.proof import Proof
from provisioning import on_node, proving

A, B, C = (f"52:54:00:22:00:0{n}" for n in (1, 2, 3))
INET = {"family": "inet", "scope": "global"}
LINKS: list[dict[str, Any]] = [
    {"ifname": "lo", "link_type": "loopback", "address": "00:00:00:00:00:00", "mtu": 65536,
     "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8, "scope": "host"}]},
    {"ifname": "nic0", "flags": ["BROADCAST", "SLAVE", "UP", "LOWER_UP"], "mtu": 9000,
     "master": "bond0", "operstate": "UP", "link_type": "ether", "address": A,
     "linkinfo": {"info_slave_kind": "bond", "info_slave_data": {"state": "ACTIVE"}},
     "addr_info": []},
    {"ifname": "nic1", "flags": ["BROADCAST", "SLAVE", "UP", "LOWER_UP"], "mtu": 9000,
     "master": "bond0", "operstate": "UP", "link_type": "ether", "address": A, "permaddr": B,
     "linkinfo": {"info_slave_kind": "bond", "info_slave_data": {"state": "BACKUP"}},
     "addr_info": []},
    {"ifname": "nic2", "flags": ["UP", "LOWER_UP"], "mtu": 1500, "operstate": "UP",
     "master": "br-ex", "link_type": "ether", "address": C, "addr_info": [],
     "linkinfo": {"info_slave_kind": "bridge"}},
    {"ifname": "bond0", "flags": ["MASTER", "UP", "LOWER_UP"], "mtu": 9000, "operstate": "UP",
     "link_type": "ether", "address": A, "addr_info": [],
     "linkinfo": {"info_kind": "bond", "info_data": {"mode": "active-backup", "miimon": 100}}},
    {"ifname": "bond0.30", "link": "bond0", "flags": ["UP", "LOWER_UP"], "mtu": 9000,
     "operstate": "UP", "link_type": "ether", "address": A,
     "linkinfo": {"info_kind": "vlan", "info_data": {"protocol": "802.1Q", "id": 30}},
     "addr_info": [{**INET, "local": "10.30.0.5", "prefixlen": 24},
                   {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"}]},
    {"ifname": "br-ex", "flags": ["UP"], "mtu": 1500, "operstate": "UP", "link_type": "ether",
     "address": C, "addr_info": [], "linkinfo": {"info_kind": "bridge", "info_data": {}}},
    {"ifname": "veth1", "link_type": "ether", "address": "0a:00:00:00:00:01", "mtu": 1500,
     "linkinfo": {"info_kind": "veth"}, "addr_info": []},
]  # fmt: skip
ROUTES = {
    "-4": [{"dst": "default", "gateway": "10.30.0.1", "dev": "bond0.30", "flags": []},
           {"dst": "10.30.0.0/24", "dev": "bond0.30", "scope": "link"},
           {"dst": "192.0.2.7", "gateway": "10.30.0.9", "dev": "bond0.30"}],
    "-6": [{"dst": "default", "gateway": "fd00::1", "dev": "bond0.30"}],
}  # fmt: skip
MIRROR = {
    "name": "md0", "type": "raid1", "mountpoint": None,
    "children": [{"name": "md0p1", "type": "part", "mountpoint": "/"}],
}  # fmt: skip
DISKS = [
    {"name": "sda", "serial": "S1", "wwn": "0x5000", "size": 480, "type": "disk",
     "mountpoint": None, "children": [{"name": "sda1", "type": "part", "children": [MIRROR]}]},
    {"name": "sdb", "serial": "S2", "wwn": None, "size": 480, "type": "disk",
     "mountpoint": None, "children": [{"name": "sdb1", "type": "part", "children": [MIRROR]}]},
    {"name": "sdc", "serial": "S3", "size": 900, "type": "disk", "mountpoint": None},
    {"name": "sr0", "serial": None, "size": 1, "type": "rom", "mountpoint": None},
]  # fmt: skip


@pytest.fixture
def script(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The script's own functions, with the tools that it calls in the test's hand."""
    found = runpy.run_path(str(Path(on_node.__file__).with_name("phone_home.py")))
    said: dict[tuple[str, ...], str] = {
        ("ip", "-j", "-d", "address"): json.dumps(LINKS),
        ("ip", "-j", "-4", "route"): json.dumps(ROUTES["-4"]),
        ("ip", "-j", "-6", "route"): json.dumps(ROUTES["-6"]),
        ("lsblk", "-J"): json.dumps({"blockdevices": DISKS}),
        ("cloud-init", "status"): json.dumps({"status": "done", "errors": []}),
        ("systemctl", "is-active", "containerd.service"): "active\n",
        ("systemctl", "is-active", "docker.service"): "failed\n",
        ("systemctl", "list-units"): "docker.service loaded failed failed Docker\n",
        ("timedatectl", "show-timesync"): "10.30.0.2\n\n10.30.0.2\n",
        # As chrony 4.3 prints them: one that answers, one whose name is not resolved.
        ("chronyc", "-c", "-N", "sources", "-a"): (
            "^,*,10.30.0.3,2,6,377,1,1,1,1\n^,?,ntp.example.org,0,6,0,4294967295,0.0,0.0,0.0\n"
        ),
    }  # fmt: skip

    def text(*argv: str) -> str:
        return next((told for key, told in said.items() if argv[: len(key)] == key), "")

    of_script = found["nics"].__globals__
    before = of_script["text"]
    of_script["text"] = text
    of_script["UNIT"] = tmp_path / "seed-phone-home.service"
    of_script["UNIT"].touch()
    of_script["KEPT"] = tmp_path / "kept"
    of_script["KEPT"].mkdir()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    (tmp_path / "kept" / "boot").write_text(boot)
    (tmp_path / "kept" / "parts.json").write_text(
        json.dumps({"join": {"path": "/etc/join", "fetched": True, "problem": ""}})
    )
    yield of_script | {"said": said}
    of_script["text"] = before


def test_bonds_vlans_bridges_and_own_macs_are_told(script: dict[str, Any]) -> None:
    links = {link["name"]: link for link in script["links"]()}
    assert set(links) == {"nic0", "nic1", "nic2", "bond0", "bond0.30", "br-ex"}
    assert links["nic1"]["own_mac"] == B
    assert links["bond0"]["bond"] == {"mode": "active-backup", "members": [A, B]}
    assert links["bond0.30"]["vlan"] == {"id": 30, "link": "bond0"}
    assert links["bond0.30"]["addresses"] == ["10.30.0.5/24"]
    assert links["br-ex"]["bridge"] == {"ports": ["nic2"]}
    assert [(n["name"], n["mac"]) for n in script["nics"]()] == [
        ("nic0", A), ("nic1", B), ("nic2", C),
    ]  # fmt: skip


def test_routes_dns_and_ntp_are_told(script: dict[str, Any]) -> None:
    assert [(r["to"], r["via"]) for r in script["routes"]()] == [
        ("0.0.0.0/0", "10.30.0.1"), ("192.0.2.7", "10.30.0.9"), ("::/0", "fd00::1"),
    ]  # fmt: skip
    assert script["ntp"]() == ["10.30.0.2", "10.30.0.3", "ntp.example.org"]
    assert script["words"](r"^nameserver\s+(.*)$", "nameserver 10.0.0.1\n#nameserver 1\n") == [
        "10.0.0.1"
    ]


def test_a_file_does_not_prove_whom_a_daemon_asks(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is what the seed itself wrote."""
    files = {"/etc/chrony/sources.d/seed.sources": "server 10.30.0.2 iburst\n"}
    monkeypatch.setitem(script["ntp"].__globals__, "read", lambda path: files.get(path, ""))
    assert script["ntp"]() == ["10.30.0.2", "10.30.0.3", "ntp.example.org"]
    script["said"]["timedatectl", "show-timesync"] = ""
    script["said"]["chronyc", "-c", "-N", "sources", "-a"] = "506 Cannot talk to daemon\n"
    told = script["ntp"]()
    assert told == ["10.30.0.2 (in a file, no daemon asks it)"]
    assert (
        "it does not ask the NTP server 10.30.0.2, but 10.30.0.2 (in a file, no daemon asks it)"
        in (proving.differs({"ntp": ["10.30.0.2"]}, {"ntp": told}))
    )


def test_the_disks_under_a_mirror_are_told(script: dict[str, Any]) -> None:
    found = script["block_devices"]()
    assert [(d["serial"], d["root"]) for d in script["disks"](found)] == [
        ("S1", True), ("S2", True), ("S3", False),
    ]  # fmt: skip
    assert script["root"](found) == {"raid": 1, "disks": 2}
    plain = [{"name": "sda", "type": "disk", "children": [{"name": "sda1", "mountpoint": "/"}]}]
    assert script["root"](plain) == {"raid": None, "disks": 1}


def test_the_whole_proof_is_one_that_the_gateway_takes(script: dict[str, Any]) -> None:
    told = script["proof"]({"token": "t" * 32, "services": ["containerd.service"]})
    told |= {"hostname": "web-0", "host_keys": ["ssh-ed25519 AAAA"]}
    taken = Proof.model_validate({k: v for k, v in told.items() if k != "token"})
    wanted = {
        "macs": [A, B, C],
        "links": [
            {"name": "bond0", "kind": "bond", "bond": {"mode": "active-backup", "members": [A, B]}},
            {"name": "bond0.30", "kind": "vlan", "vlan": {"id": 30, "link": "bond0"},
             "addresses": ["10.30.0.5/24"], "mtu": 9000},
        ],
        "routes": [
            {"to": "0.0.0.0/0", "via": "10.30.0.1"}, {"to": "192.0.2.7/32", "via": "10.30.0.9"},
        ],
        "disks": {"root": {"serials": ["S1", "S2"], "raid": 1}},
        "services": ["containerd.service"], "parts": ["join"],
    }  # fmt: skip
    assert proving.differs(wanted, taken.model_dump(mode="json")) == []
    assert taken.failed_units == ["docker.service"]


def test_a_tool_that_is_missing_or_talks_nonsense_does_not_end_it(script: dict[str, Any]) -> None:
    for nonsense in ("", "nonsense", "[]", "null"):
        for key in script["said"]:
            script["said"][key] = nonsense
        told = script["proof"]({"token": "t" * 32})
        assert told["links"] == told["routes"] == told["disks"] == []
        assert told["root"] == {"raid": None, "disks": 0}


@pytest.mark.parametrize(
    ("states", "told", "waited"),
    [
        (["activating", "failed", "activating", "active"], "active", 15),
        (["failed"] * 9, "failed", 30),
        (["failed", "activating"] * 50, "failed", 300),
        (["inactive"] * 99, "inactive", 300),
    ],
    ids=["starts late", "stays failed", "comes and goes", "never"],
)
def test_a_service_has_time_to_start(
    script: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    states: list[str],
    told: str,
    waited: float,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(script["time"], "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        script["time"], "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds)
    )
    left = iter(states)
    of_script = script["services"].__globals__
    monkeypatch.setitem(
        of_script, "text", lambda *argv: next(left) if argv[2] == "chrony.service" else "active\n"
    )
    found = script["services"](["ssh.service", "chrony.service"])
    assert found == [
        {"name": "ssh.service", "state": "active"}, {"name": "chrony.service", "state": told},
    ]  # fmt: skip
    assert clock == [waited]


# --- kernel arguments ---------------------------------------------------------------------------


def test_a_restart_before_cloud_inits_end_is_told_and_the_claim_does_not_pass(
    script: dict[str, Any], tmp_path: Path
) -> None:
    """A second boot's "done" says nothing of what failed in the first."""
    (tmp_path / "kept" / "boot").write_text("another boot\n")
    assert "restarted" in script["first_boot"]()["cloud_init"]["status"]


def test_what_the_first_boot_knew_is_kept_before_the_proof_waits_for_anything(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept" / "phone-home.json"
    path.write_text(json.dumps({"token": "t", "ca": "", "url": ""}))

    kept: list[dict[str, Any]] = []

    def proof(_config: object) -> dict[str, Any]:
        kept.append(json.loads(path.read_text()))
        return {}

    monkeypatch.setitem(script["main"].__globals__, "proof", proof)
    monkeypatch.setitem(script["main"].__globals__, "send", lambda _config, _body: None)
    monkeypatch.setattr(script["subprocess"], "run", lambda _argv, **_: None)
    script["main"](path)
    assert kept[0]["first_boot"]["cloud_init"]["status"] == "done"


def test_arguments_are_set_once_and_what_the_first_boot_knew_is_kept(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []
    grub = tmp_path / "default" / "grub.d" / "90-seed.cfg"
    grub.parent.parent.mkdir()
    monkeypatch.setitem(script["main"].__globals__, "GRUB", grub)
    monkeypatch.setattr(script["shutil"], "which", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(script["subprocess"], "run", lambda argv, **_: ran.append(tuple(argv)))
    path = tmp_path / "kept" / "phone-home.json"
    path.write_text(json.dumps({"token": "t", "ca": "", "url": "", "kernel_args": ["a=1", "b"]}))
    script["main"](path)
    assert ran == [("update-grub",), ("systemctl", "reboot")]
    assert 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX a=1 b"' in grub.read_text()
    kept = json.loads(path.read_text())
    assert kept["first_boot"]["cloud_init"]["status"] == "done"
    assert kept["first_boot"]["parts"] == [{"name": "join", "fetched": True, "problem": ""}]
    assert path.stat().st_mode & 0o777 == 0o600

    # The next boot has them not: it says so, and does not restart again.
    sent: list[dict[str, Any]] = []
    monkeypatch.setitem(
        script["main"].__globals__, "send", lambda config, body: sent.append(json.loads(body))
    )
    (path.parent / "parts.json").unlink()
    ran.clear()
    script["main"](path)
    assert ("systemctl", "reboot") not in ran
    assert sent[0]["parts"] == kept["first_boot"]["parts"]
    assert not path.parent.exists(), "nothing secret stays"
    assert ("systemctl", "disable", "--quiet", "seed-phone-home.service") in ran
    assert not script["UNIT"].exists()
