"""The playbooks of the installer `debian`: Ansible reads them, and what check.py says by itself."""

import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock
from urllib.parse import parse_qs

import pytest
import yaml

from tests.fakes.programs import environments

PLAYBOOKS = Path(__file__).parents[2] / "provisioning/installers/debian_playbooks"
BIN = environments() / "ansible" / "bin"
STAGES = (
    "hosts", "data", "identity", "images", "placement", "network", "compute", "dashboard",
    "check", "leave",
)  # fmt: skip
INVENTORY = {
    "all": {
        "children": {
            "control": {"hosts": {"node1": None}},
            "network": {"hosts": {"node1": None}},
            "compute": {"hosts": {"node1": None, "node2": None}},
        },
    }
}


def loaded(name: str) -> ModuleType:
    """A script of the folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"debian_{name}", PLAYBOOKS / f"files/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check, put, zones = loaded("check"), loaded("put"), loaded("zones")


def test_each_stage_is_a_file_and_no_other() -> None:
    found = {path.stem for path in PLAYBOOKS.glob("*.yml")} - {"vars"}
    assert found == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_ansible_reads_the_stage(stage: str, tmp_path: Path) -> None:
    """A warning is a failure: Ansible read something else."""
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text(yaml.safe_dump(INVENTORY))
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", inventory, "--syntax-check", PLAYBOOKS / f"{stage}.yml"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr + done.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_a_task_that_ships_files_says_nothing_of_them(stage: str) -> None:
    for play in yaml.safe_load((PLAYBOOKS / f"{stage}.yml").read_text()):
        for task in play["tasks"]:
            if "oc_bundle" in str(task):
                assert task["no_log"] is True, task["name"]
            assert "oc_secrets" not in str(task), task["name"]


@pytest.mark.parametrize("script", sorted(PLAYBOOKS.glob("files/*.sh")), ids=lambda p: p.name)
def test_a_shell_can_read_the_script(script: Path) -> None:
    subprocess.run(["/bin/bash", "-n", script], check=True, timeout=30)


def test_whatever_has_a_secret_is_a_file_of_few_readers() -> None:
    """oc_files: what renders a secret, or a macro that does, is at most its group's."""
    secret = {
        path.name for path in PLAYBOOKS.glob("templates/*")
        if "oc_secrets" in path.read_text() or "import 'auth.j2'" in path.read_text()
    }  # fmt: skip
    for stage in STAGES:
        for play in yaml.safe_load((PLAYBOOKS / f"{stage}.yml").read_text()):
            for file in play.get("vars", {}).get("oc_files", []):
                if isinstance(file, dict) and file.get("template") in secret:
                    assert file.get("mode") in ("0600", "0640"), file["path"]


# --- check.py -------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_the_initramfs_is_one_that_cpio_takes_apart(tmp_path: Path) -> None:
    made = check.cpio(
        {
            "dir": (stat.S_IFDIR | 0o755, b""),
            "dir/file": (stat.S_IFREG | 0o644, b"content"),
            "init": (stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
        }
    )
    argv = ["cpio", "--quiet", "-i", "-d"]
    subprocess.run(argv, input=made, cwd=tmp_path, check=True, timeout=30)
    assert (tmp_path / "dir/file").read_bytes() == b"content"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert len(made) % 4 == 0


def test_a_module_comes_after_what_it_needs() -> None:
    dependencies = (
        "kernel/net/packet/af_packet.ko.xz:\n"
        "kernel/net/core/failover.ko.xz:\n"
        "kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz\n"
        "kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz"
        " kernel/net/core/failover.ko.xz\n"
    )
    found = [
        Path(f).name
        for f in check.in_order(("virtio_pci", "virtio_net", "af_packet"), dependencies)
    ]
    assert found == ["failover.ko.xz", "net_failover.ko.xz", "virtio_net.ko.xz", "af_packet.ko.xz"]


@pytest.mark.parametrize(
    ("console", "address"),
    [
        ("", ""),
        ("OC-CHECK booted\nudhcpc: no lease", ""),
        ("OC-CHECK booted\r\nOC-CHECK address 10.77.0.116\r\nOC-CHECK alive", "10.77.0.116"),
    ],
)
def test_the_address_is_what_the_guest_said(console: str, address: str) -> None:
    assert check.address_in(console) == address


def service(binary: str, host: str, state: str = "up", status: str = "enabled") -> SimpleNamespace:
    return SimpleNamespace(binary=binary, host=host, state=state, status=status)


@pytest.mark.parametrize(
    ("services", "verdict"),
    [
        ([], ("failed", "no compute service is known")),
        ([service("nova-compute", "n1")], ("ok", "1 services are up")),
        (
            [service("nova-compute", "n1", status="disabled")],
            ("ok", "1 services are up; disabled: n1"),
        ),
        (
            [service("nova-compute", "n1"), service("nova-compute", "n2", "down")],
            ("failed", "down: nova-compute on n2"),
        ),
    ],
)
def test_services_that_are_down_are_named(
    services: list[SimpleNamespace], verdict: tuple[str, str]
) -> None:
    assert check.of_services(services) == verdict


def test_agents_that_are_dead_are_named() -> None:
    alive = SimpleNamespace(agent_type="OVN Controller agent", host="n1", is_alive=True)
    dead = SimpleNamespace(agent_type="OVN Controller agent", host="n2", is_alive=False)
    assert check.of_agents([]) == ("failed", "no network agent is known")
    assert check.of_agents([alive]) == ("ok", "1 agents are alive")
    assert check.of_agents([alive, dead]) == ("failed", "dead: OVN Controller agent on n2")


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    assert check.of_endpoints({"image": "", "compute": ""}) == ("ok", "compute, image answer")
    told = check.of_endpoints({"image": "http://v:9292 answers 502", "compute": ""})
    assert told == ("failed", "image: http://v:9292 answers 502")


class Horizon(BaseHTTPRequestHandler):
    """Its login, as check.py knows it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Set-Cookie", "csrftoken=drawn; Path=/")
        self.end_headers()

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        same = form["csrfmiddlewaretoken"] == ["drawn"] and "csrftoken=drawn" in str(self.headers)
        right = form["username"] == ["admin"] and form["password"] == ["right"]
        self.send_response(302 if same and right and self.headers["Referer"] else 200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("password", "verdict"),
    [("right", ("ok", "lets the administrator in")), ("wrong", ("failed", "answers 200"))],
)
def test_horizon_is_asked_to_let_its_administrator_in(
    password: str, verdict: tuple[str, str]
) -> None:
    cloud = SimpleNamespace(
        config=SimpleNamespace(
            config={"auth": {"username": "admin", "password": password}},
            get_requests_verify_args=lambda: (True, None),
        )
    )
    with HTTPServer(("127.0.0.1", 0), Horizon) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        state, sentence = check.Check(cloud, "fake", 1.0, url).dashboard()
        server.shutdown()
    assert (state, verdict[1] in sentence) == (verdict[0], True), sentence
    assert password not in sentence


@pytest.mark.parametrize(
    ("router", "gateway", "console", "verdict"),
    [
        (("ok", "a router"), "10.9.0.1", "OC-CHECK reached 10.9.0.1\n", ("ok", "10.9.0.1")),
        (("ok", "a router"), "10.9.0.1", "OC-CHECK alive\n", ("failed", "no echo")),
        (("ok", "a router"), "", "", ("ok", "a router")),
        (("none", "there is no external network"), "", "", ("none", "no external")),
    ],
)
def test_a_guest_asks_the_gateway_outside(
    monkeypatch: pytest.MonkeyPatch,
    router: tuple[str, str],
    gateway: str,
    console: str,
    verdict: tuple[str, str],
) -> None:
    monkeypatch.setattr(check, "REACH_SECONDS", 0.1)
    monkeypatch.setattr(check.time, "sleep", lambda seconds: None)
    told = {"output": console}
    compute = SimpleNamespace(
        get_server=lambda ident: None, get_server_console_output=lambda ident: told
    )
    look = check.Check(SimpleNamespace(compute=compute), "libvirt", 1.0)
    look.told["router"], look.gateway = router, gateway
    state, sentence = look._reaches(SimpleNamespace(id="s"))
    assert (state, verdict[1] in sentence) == (verdict[0], True), sentence


@pytest.mark.parametrize(
    ("listed", "verdict"),
    [
        (True, ("none", "there is no external network")),
        (False, ("failed", "ConnectionError: no answer")),
    ],
)
def test_a_network_that_cannot_be_listed_fails_the_router_and_no_server(
    listed: bool, verdict: tuple[str, str]
) -> None:
    def networks(is_router_external: bool = False, name: str = "") -> list[object]:
        if is_router_external and not listed:
            raise ConnectionError("no answer")
        return []

    cloud = MagicMock()  # what it lists else is empty
    cloud.network.networks = networks
    cloud.compute.get_server.return_value = SimpleNamespace(status="ACTIVE")
    told = check.Check(cloud, "fake", 5.0).run()
    assert (told["server"][0], told["router"]) == ("ok", verdict), told


def test_a_look_that_fails_is_one_item_of_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever happens, one line of JSON comes out."""

    class Nothing:
        def __getattr__(self, name: str) -> object:
            raise ConnectionError(f"no\nanswer of {name}")

    told = check.Check(Nothing(), "fake", 1.0).run()
    assert {state for state, _ in told.values()} == {"failed", "none"}
    assert "\n" not in json.dumps(told)


# --- put.py, zones.py -----------------------------------------------------------------------------


def test_a_file_is_written_once_and_only_its_own_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep/file"
    owner, group = Path(tmp_path).owner(), Path(tmp_path).group()
    told = {"path": str(path), "text": "a=1\n", "owner": owner, "group": group, "mode": "0640"}
    assert put.put(told)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("a=1\n", 0o640)
    assert not put.put(told)
    path.chmod(0o644)
    assert put.put(told)
    assert path.stat().st_mode & 0o777 == 0o640
    assert put.put({"path": str(path), "gone": True})
    assert not put.put({"path": str(path), "gone": True})


def test_a_link_takes_the_place_of_a_file(tmp_path: Path) -> None:
    told = {"path": str(tmp_path / "unit"), "link": "/dev/null"}
    (tmp_path / "unit").write_text("x")
    assert put.put(told)
    assert not put.put(told)
    assert os.readlink(tmp_path / "unit") == "/dev/null"  # noqa: PTH115


def test_what_put_changed_is_on_stdout(tmp_path: Path) -> None:
    owner, group = tmp_path.owner(), tmp_path.group()
    files = [{"path": str(tmp_path / "f"), "text": "x", "owner": owner, "group": group}]
    argv = [sys.executable, "-I", PLAYBOOKS / "files/put.py"]
    for changed in ([str(tmp_path / "f")], []):
        done = subprocess.run(
            argv, input=json.dumps(files), capture_output=True, text=True, check=True, timeout=30
        )
        assert json.loads(done.stdout) == changed


def test_a_host_leaves_its_zone_before_it_enters_another() -> None:
    made = zones.changes({"rack2": ["n1", "n2"]}, {"rack1": {"n1"}})
    assert made == [
        ("remove", "rack1", "n1"),
        ("delete", "rack1", ""),
        ("make", "rack2", ""),
        ("add", "rack2", "n1"),
        ("add", "rack2", "n2"),
    ]
    assert zones.changes({"r": ["n1"]}, {"r": {"n1"}}) == []
