"""Config drives as Ironic gets them: what runs in them, how large they become, what is refused."""

import base64
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import drive, on_node
from provisioning.errors import Invalid
from provisioning.models import Claim
from provisioning.targets import NodeFile, PartUrl
from provisioning.targets.plain import PLUGIN

MAC = "52:54:00:22:00:01"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----\n"
CA = "-----BEGIN CERTIFICATE-----\nMIIabc\n-----END CERTIFICATE-----\n"
NETWORK = {
    "links": [{"id": "nic0", "type": "phy", "ethernet_mac_address": MAC, "mtu": 1500}],
    "networks": [], "services": [],
}  # fmt: skip


class Macs:
    def __init__(self, *macs: str) -> None:
        self.macs = set(macs)


def made(user_data: str = "", **more: Any) -> dict[str, Any]:
    wanted = {
        "node_uuid": "u", "hostname": "web-0", "network_data": NETWORK,
        "gateway_url": "https://172.22.0.1", "token": "t" * 64, "ca_pem": CA,
    }  # fmt: skip
    seat = drive.seat(**(wanted | more))
    claim = Claim(name="web", image="debian", ssh_keys=["ssh-ed25519 AAAA"], user_data=user_data)
    return PLUGIN.config_drive(claim, seat)


def scripts(one: dict[str, Any]) -> list[str]:
    found = on_node.parts_of(one["vendor_data"]["cloud-init"])
    return found


def test_the_callers_user_data_stays_whole() -> None:
    text = "#cloud-config\nwrite_files: [{path: /a, content: x}]\n"
    assert made(text)["user_data"] == text
    assert len(scripts(made(text))) == 1


PARTS = (PartUrl("join", "/etc/join", 0o600, "https://172.22.0.1/v1/parts/x", "a:b"),)
FILES = (NodeFile("/etc/systemd/network/10-x.network", "[Match]\nName='x'\n$(reboot)\n", 0o640),)


def test_files_and_parts_come_before_anything_of_the_callers() -> None:
    """A boothook: cloud-init runs it before its modules, and so before any script of theirs."""
    early, late = scripts(made(files=FILES, parts=PARTS))
    assert early.startswith("#cloud-boothook\n#!/bin/sh\n")
    assert late.startswith("#!/bin/sh\n")


@pytest.mark.parametrize("kernel_args", [(), ("quiet", "intel_iommu=on")])
def test_each_script_is_one_that_a_shell_reads(kernel_args: tuple[str, ...]) -> None:
    """And what it writes is what was meant, byte for byte."""
    for text in scripts(made(files=FILES, parts=PARTS, kernel_args=kernel_args)):
        subprocess.run(["sh", "-n"], input=text, text=True, check=True, timeout=20)
    folder = Path(tempfile.mkdtemp())
    try:
        early = scripts(made(files=FILES, parts=PARTS))[0]
        early = early.replace("/etc/seed-first-boot", str(folder / "kept"))
        early = early.replace("/var/lib", str(folder))
        early = early.replace("python3 ", "true python3 ")
        subprocess.run(["sh", "-eu"], input=early, text=True, check=True, timeout=20)
        told = json.loads((folder / "kept/early.json").read_text())
        assert told["files"] == [
            {"path": f.path, "mode": f.mode, "content": f.content} for f in FILES
        ]
        assert [p["url"] for p in told["parts"]] == [p.url for p in PARTS]
        assert told["ca"] == CA
        assert (folder / "kept/early.json").stat().st_mode & 0o777 == 0o600
        assert (folder / "kept").stat().st_mode & 0o777 == 0o700, "it outlives a restart"
        again = (folder / "cloud/instance/sem/seed_early").exists()
        assert again, "the second boot does nothing"
    finally:
        shutil.rmtree(folder)


def test_what_came_of_the_parts_survives_any_restart_of_the_first_boot() -> None:
    """The late look may be a boot later, and /run is empty then."""
    early, late = scripts(made(files=FILES, parts=PARTS))
    assert "/run/" not in early.split("early.py <<")[0]
    assert "python3 /etc/seed-first-boot/early.py /etc/seed-first-boot/early.json late" in late


@pytest.mark.parametrize("args", [[], ["quiet"]], ids=str)
def test_the_proof_survives_a_restart_of_the_first_boot(args: list[str]) -> None:
    """That which kernel arguments need, or one that the caller's user-data asks for."""
    (text,) = scripts(made(kernel_args=args))
    assert "/run/" not in text.split("phone_home.py <<")[0]
    assert "/etc/seed-first-boot/phone-home.json" in text
    assert "systemctl enable --quiet seed-phone-home.service" in text


# --- how large ----------------------------------------------------------------------------------


def as_ironic_packs(one: dict[str, Any]) -> int:
    """openstacksdk's way (openstack/baremetal/configdrive.py), done with the real mkisofs."""
    names = {
        "meta_data": "meta_data.json", "network_data": "network_data.json",
        "vendor_data": "vendor_data2.json",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as base:
        for version in ("2012-08-10", "latest"):
            folder = Path(base) / "tree" / "openstack" / version
            folder.mkdir(parents=True)
            for key, name in names.items():
                (folder / name).write_text(json.dumps(one[key]))
            (folder / "user_data").write_text(one["user_data"])
        argv = [
            "-o", f"{base}/iso", "-ldots", "-allow-lowercase", "-allow-multidot", "-l",
            "-publisher", "metalsmith", "-quiet", "-J", "-r", "-V", "config-2", f"{base}/tree",
        ]  # fmt: skip
        program = shutil.which("genisoimage") or shutil.which("mkisofs")
        assert program, "Ironic needs it, too"
        subprocess.run([program, *argv], check=True, timeout=60, capture_output=True)
        packed = subprocess.run(["gzip", "-9c", f"{base}/iso"], check=True, capture_output=True)
        return len(base64.b64encode(packed.stdout))


NOISE = base64.b64encode(b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(1000))).decode()


@pytest.mark.parametrize(
    "user_data",
    ["", "#!/bin/sh\n" + "echo hello\n" * 3000, f"#!/bin/sh\n# {NOISE}\n",
     f"#!/bin/sh\n# {NOISE[:9000]}\n"],
    ids=["nothing", "text", "noise", "some noise"],
)  # fmt: skip
def test_the_size_is_the_one_that_ironic_makes(user_data: str) -> None:
    one = made(user_data, files=FILES, parts=PARTS)
    real, told = as_ironic_packs(one), drive.packed_bytes(one)
    assert real <= told <= real + 2048


def test_what_does_not_fit_is_refused() -> None:
    assert drive.lint(made("#!/bin/sh\n" + "echo hello\n" * 4000), None) == []
    (fault,) = drive.lint(made(f"#!/bin/sh\n# {NOISE}\n"), None)
    assert "Ironic keeps 64000: move the largest files of user_data to secret_files" in fault


# --- what is refused ----------------------------------------------------------------------------


def test_a_nic_that_the_node_has_not_is_named() -> None:
    assert drive.lint(made(), Macs(MAC)) == []
    assert drive.lint(made(), Macs("52:54:00:22:00:02")) == [
        f"network_data: the node has no NIC {MAC}"
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"files": [NodeFile("/etc/key", KEY)]},
        {"network_data": NETWORK | {"note": KEY}},
        {"ca_pem": KEY},
    ],
    ids=["file", "network_data", "ca"],
)
def test_no_secret_is_in_any_part_of_it(more: dict[str, Any]) -> None:
    found = drive.lint(made(**more), None)
    assert found
    assert all("a private key is in it" in fault for fault in found)
    with pytest.raises(Invalid, match="the config drive of node-1: "):
        drive.check(made(**more), None, "node-1")


def test_the_usual_one_is_fine_and_its_seed_data_is_yaml_for_cloud_init() -> None:
    one = made(files=FILES, parts=PARTS, kernel_args=["quiet"])
    assert drive.lint(one, Macs(MAC)) == []
    assert yaml.safe_load(one["user_data"]) == {}
    assert drive.stored_bytes(one) < drive.LARGEST / 2
