"""Add-ons: kubectl's own Kustomize reads what is written for it, and shell texts do what they say.

The manifests here have no more of the published ones than what Seed changes and its neighbours.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import chosen_addons
from tests.fakes.a_kubeadm import FIRST, WORKER
from tests.fakes.an_addon import DISKS, members, secrets, with_addons

STORED = members()[4]
KUBECTL = shutil.which("kubectl")


def workload(kind: str, name: str, namespace: str, *containers: dict[str, Any]) -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {"app": name}}, "template": {
        "metadata": {"labels": {"app": name}}, "spec": {"containers": [*containers]}}}  # fmt: skip
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def config_map(name: str, namespace: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


MANIFESTS: dict[str, list[dict[str, Any]]] = {
    "flannel": [
        config_map("kube-flannel-cfg", "kube-flannel", **{
            "cni-conf.json": "{}", "net-conf.json": '{"Network": "10.244.0.0/16"}'}),
        workload("DaemonSet", "kube-flannel-ds", "kube-flannel",
                 {"name": "kube-flannel", "image": "x/flannel:v1", "args": ["--ip-masq",
                                                                           "--kube-subnet-mgr"]}),
    ],
    "calico": [
        config_map("calico-config", "kube-system", veth_mtu="0"),
        workload("DaemonSet", "calico-node", "kube-system",
                 {"name": "calico-node", "image": "x/node:v1",
                  "env": [{"name": "IP", "value": "autodetect"}]}),
    ],
    "cilium": [
        config_map("cilium-config", "kube-system", **{
            "ipam": "cluster-pool", "cluster-pool-ipv4-cidr": "10.0.0.0/8", "debug": "false"}),
    ],
    "ceph": [
        {**workload("Deployment", "csi-rbdplugin-provisioner", "default",
                    {"name": "csi-rbdplugin", "image": "x/cephcsi:v1"})},
    ],
}  # fmt: skip
MANIFESTS["ceph"][0]["spec"]["replicas"] = 3


def built(name: str, manifest: list[dict[str, Any]], folder: Path) -> Any:
    """As `kubectl apply -k` would apply it."""
    facts = with_addons(name)
    (part,) = (
        one for one in chosen_addons.parts(facts, FIRST, secrets())
        if one.path.endswith("kustomization.yaml")
    )  # fmt: skip
    (folder / "kustomization.yaml").write_bytes(part.content)
    (folder / "manifest.yaml").write_text(yaml.safe_dump_all(manifest))
    assert KUBECTL
    return subprocess.run(
        [KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, timeout=60,
        check=False, env={"HOME": str(folder), "PATH": os.environ["PATH"]},
    )  # fmt: skip


@pytest.mark.skipif(not KUBECTL, reason="NOT CHECKED: no kubectl here")
@pytest.mark.parametrize("name", MANIFESTS)
def test_kubectl_changes_what_the_manifest_must_know_and_nothing_else(
    name: str, tmp_path: Path
) -> None:
    done = built(name, MANIFESTS[name], tmp_path)
    assert done.returncode == 0, done.stderr
    made = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    pod = made.get("DaemonSet", {"spec": {"template": {}}})["spec"]["template"].get("spec", {})
    match name:
        case "flannel":
            data = made["ConfigMap"]["data"]
            assert json.loads(data["net-conf.json"])["Network"] == "10.244.0.0/20"
            assert data["cni-conf.json"] == "{}"
            assert pod["containers"] == [{
                "name": "kube-flannel", "image": "x/flannel:v1",
                "args": ["--ip-masq", "--kube-subnet-mgr", "--iface=bond0.30"],
            }]  # fmt: skip
        case "calico":
            (container,) = pod["containers"]
            assert {one["name"]: one["value"] for one in container["env"]} == {
                "IP": "autodetect", "CALICO_IPV4POOL_CIDR": "10.244.0.0/20",
                "IP_AUTODETECTION_METHOD": "kubernetes-internal-ip",
            }  # fmt: skip
            assert container["image"] == "x/node:v1"
        case "cilium":
            data = made["ConfigMap"]["data"]
            assert (data["ipam"], data["debug"]) == ("kubernetes", "false")
        case "ceph":
            assert made["Deployment"]["spec"]["replicas"] == 2


@pytest.mark.skipif(not KUBECTL, reason="NOT CHECKED: no kubectl here")
@pytest.mark.parametrize(
    ("name", "says"),
    [("flannel", "kube-flannel-cfg"), ("calico", "calico-node"), ("cilium", "cilium-config"),
     ("ceph", "csi-rbdplugin-provisioner")],
)  # fmt: skip
def test_a_manifest_of_something_else_is_refused_by_name(
    name: str, says: str, tmp_path: Path
) -> None:
    done = built(name, [config_map("other", "default")], tmp_path)
    assert done.returncode != 0
    assert says in done.stderr


# --- shell ----------------------------------------------------------------------------------------


def run(member: Any, name: str, step: str, root: Path, programs: dict[str, str]) -> Any:
    """The step with its folders below root, and programs that stand in."""
    facts = with_addons(name)
    all_steps = [*chosen_addons.early(facts, member), *chosen_addons.steps(facts, member)]
    text = next(one for one in all_steps if one.name == f"{name} {step}").argv[2]
    text = re.sub(r"(?<![\w$\"/])/(proc|dev(?!/null)|opt|var|etc)/", rf"{root}/\1/", text)
    (root / "bin").mkdir(exist_ok=True)
    for program, words in programs.items():
        (root / "bin" / program).write_text(f"#!/bin/sh\n{words.format(root=root)}\n")
        (root / "bin" / program).chmod(0o755)
    return subprocess.run(
        ["/bin/sh", "-euc", text], capture_output=True, text=True, timeout=30, check=False,
        env={"PATH": f"{root}/bin:/usr/bin:/bin"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "kvm", "code", "says"),
    [
        ("fpu vme vmx smx", True, 0, ""),
        ("fpu svm", True, 0, ""),
        ("fpu vmxx svm_lock", True, 1, "web-worker-3 cannot run virtual machines"),
        ("", True, 1, "web-worker-3 cannot run virtual machines"),
        ("fpu vmx", False, 1, "web-worker-3 has no /dev/kvm"),
    ],
)
def test_a_node_whose_cpu_cannot_is_named(
    flags: str, kvm: bool, code: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    (tmp_path / "dev").mkdir()
    if kvm:  # any character device will do
        (tmp_path / "dev/kvm").symlink_to("/dev/null")
    done = run(WORKER, "kata", "cpu", tmp_path, {"modprobe": "exit 1"})
    assert done.returncode == code, done.stderr
    assert says in done.stdout.replace(str(tmp_path), "")


CTR = """\
echo "$*" >> {root}/calls
case "$*" in
  *"images list"*) cat {root}/listed ;;
  *"images mount"*) mkdir -p "$6/opt/kata-artifacts/opt"; cp -a {root}/image "$6/opt/kata-artifacts/opt/kata" ;;
  *"images unmount"*) rm -rf "$6/opt" ;;
esac
"""  # noqa: E501


def an_image(root: Path, *, config: bool = True) -> None:
    for name in ("bin/containerd-shim-kata-v2",
                 "share/defaults/kata-containers/configuration-qemu.toml"):  # fmt: skip
        if config or name.startswith("bin"):
            (root / "image" / name).parent.mkdir(parents=True)
            (root / "image" / name).write_text(name)
    (root / "opt").mkdir()
    (root / "listed").write_text("r/pause:3.10\nr/kata-deploy:3.21.0\n")


def test_katas_files_come_out_of_its_image_once(tmp_path: Path) -> None:
    an_image(tmp_path)
    for _ in range(2):
        done = run(WORKER, "kata", "files", tmp_path, {"ctr": CTR})
        assert done.returncode == 0, done.stderr + done.stdout
    shim = tmp_path / "opt/kata/bin/containerd-shim-kata-v2"
    assert shim.read_text() == "bin/containerd-shim-kata-v2"
    calls = (tmp_path / "calls").read_text()
    assert calls.count(" mount r/kata-deploy:3.21.0 ") == 1
    assert calls.count("unmount --rm") == 1
    assert not list(tmp_path.glob("opt/*.new"))


def test_an_image_that_is_not_there_or_another_is_named(tmp_path: Path) -> None:
    an_image(tmp_path, config=False)
    done = run(WORKER, "kata", "files", tmp_path, {"ctr": CTR})
    assert done.returncode == 1
    assert "is kata-deploy of another release?" in done.stdout
    shutil.rmtree(tmp_path / "opt/kata")
    (tmp_path / "listed").write_text("r/pause:3.10\n")
    done = run(WORKER, "kata", "files", tmp_path, {"ctr": CTR})
    assert done.returncode == 1
    assert "containerd has no image kata-deploy" in done.stdout


def test_a_disk_that_is_not_there_is_named_by_its_wwn(tmp_path: Path) -> None:
    (tmp_path / "dev/seed").mkdir(parents=True)
    programs = {"udevadm": 'echo "$*" >> {root}/calls'}
    done = run(STORED, "storage-local", "disks", tmp_path, programs)
    assert done.returncode == 1
    assert f"web-worker-4 has no disk with the WWN {DISKS[0].wwn}" in done.stdout
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["control", "trigger", "settle"]


@pytest.mark.skipif(not shutil.which("udevadm"), reason="NOT CHECKED: no udev here")
def test_udev_reads_the_rules(tmp_path: Path) -> None:
    facts = with_addons("storage-local")
    (part,) = chosen_addons.parts(facts, STORED, secrets())
    (tmp_path / "61-seed-disks.rules").write_bytes(part.content)
    help_text = subprocess.run(
        ["udevadm", "--help"], capture_output=True, text=True, timeout=10, check=False
    ).stdout
    if "verify" not in help_text:
        pytest.skip("NOT CHECKED: this udevadm has no verify (254)")
    done = subprocess.run(
        ["udevadm", "verify", str(tmp_path / "61-seed-disks.rules")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
