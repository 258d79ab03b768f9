"""What a node does before anything of its holder's runs, against a real TLS server on loopback."""

import json
import os
import pwd
import runpy
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from provisioning import networkd, on_node
from seed.host import tls
from seed.host.paths import Paths
from seed.settings import ProvisioningWire
from tests.fakes.serving import serving
from tests.fakes.settings import some_settings
from tests.fakes.tls import over_tls

WIRE = "127.75.0.1"
CONTENT = b"join=s3cr3t\n\0\xff"


@dataclass
class Gateway:
    """answers: path -> statuses in turn; the last one stays. posted: bodies that came."""

    ca: str
    url: str = ""
    answers: dict[str, list[int]] = field(default_factory=dict)
    posted: list[Any] = field(default_factory=list)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    wire = ProvisioningWire(
        interface="lo", address=IPv4Interface(f"{WIRE}/24"),
        pool_start=IPv4Address("127.75.0.10"), pool_end=IPv4Address("127.75.0.99"),
        unknown_start=IPv4Address("127.75.0.100"), unknown_end=IPv4Address("127.75.0.110"),
    )  # fmt: skip
    settings = some_settings(tmp_path, provisioning=wire)
    tls.ensure(settings)
    folder = Paths(settings).tls
    found = Gateway((folder / "ca.pem").read_text())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            left = found.answers.get(self.path, [404])
            status = left.pop(0) if len(left) > 1 else left[0]
            body = CONTENT if status == 200 else b"{}"
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            found.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((WIRE, 0), Handler)
    over_tls(server, folder / "gateway.pem", folder / "gateway.key")
    found.url = f"https://{WIRE}:{server.server_address[1]}"
    with serving(server):
        yield found


def script(name: str, **constants: Any) -> dict[str, Any]:
    found = runpy.run_path(str(Path(on_node.__file__).with_name(name)))
    space: dict[str, Any] = found["main"].__globals__
    space.update(constants)
    return space


@dataclass
class Node:
    folder: Path
    gateway: Gateway

    def part(self, name: str, owner: str = "", mode: int = 0o600) -> dict[str, Any]:
        path, url = str(self.folder / "etc" / name), f"{self.gateway.url}/v1/parts/{name}"
        return {"name": name, "path": path, "mode": mode, "owner": owner, "url": url}

    def early(self, *parts: dict[str, Any], late: bool = False, **changes: Any) -> dict[str, Any]:
        config = {"ca": self.gateway.ca, "files": [], "parts": list(parts)} | changes
        path = self.folder / "early.json"
        path.write_text(json.dumps(config))
        before = os.umask(0o077)
        try:
            script("early.py", EARLY_FOR=3, LATE_FOR=3, PAUSE=0.05)["main"](path, late)
        finally:
            os.umask(before)
        told = self.folder / "parts.json"
        return json.loads(told.read_text()) if told.exists() else {}


@pytest.fixture
def node(tmp_path: Path, gateway: Gateway) -> Node:
    folder = tmp_path / "node"
    folder.mkdir()
    return Node(folder, gateway)


def test_a_part_is_fetched_whole_with_its_mode(node: Node) -> None:
    node.gateway.answers = {"/v1/parts/join": [200]}
    told = node.early(node.part("join", mode=0o640))
    path = node.folder / "etc" / "join"
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755, "others may pass the folder"
    assert told == {"join": {"path": str(path), "fetched": True, "problem": ""}}
    assert stat.S_IMODE((node.folder / "parts.json").stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["join"], "nothing half-written stays"


def test_a_seed_that_is_busy_is_asked_again(node: Node) -> None:
    node.gateway.answers = {"/v1/parts/join": [503, 503, 429, 200]}
    assert node.early(node.part("join"))["join"]["problem"] == ""


def test_what_cannot_be_had_is_told_without_its_url(node: Node) -> None:
    node.gateway.answers = {"/v1/parts/join": [404], "/v1/parts/other": [503]}
    told = node.early(node.part("join"), node.part("other"))
    assert told["join"]["problem"] == "the seed answered 404"
    assert told["other"]["problem"] == "the seed answered 503"
    assert "/v1/parts" not in json.dumps(told)
    assert not (node.folder / "etc").exists()


def test_nobody_but_the_seed_is_believed(node: Node, tmp_path: Path) -> None:
    """Another authority's certificate: nothing is sent, nothing is taken."""
    other = some_settings(tmp_path / "other")
    tls.ensure(other)
    node.gateway.answers = {"/v1/parts/join": [200]}
    told = node.early(node.part("join"), ca=(Paths(other).tls / "ca.pem").read_text())
    assert told["join"]["fetched"] is False
    assert "could not be reached: SSLCertVerificationError" in told["join"]["problem"]


def test_a_later_look_settles_what_was_too_early(node: Node) -> None:
    """An owner that cloud-init makes in between; what was fetched is not fetched again."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    node.gateway.answers = {"/v1/parts/mine": [200, 404], "/v1/parts/missed": [404, 200]}
    told = node.early(node.part("mine", "no-such-user"), node.part("missed"))
    assert told["mine"]["fetched"] is True
    assert told["mine"]["problem"] == "it cannot belong to no-such-user: LookupError"
    told = node.early(node.part("mine", f"{me}"), node.part("missed"), late=True)
    assert [told[name]["problem"] for name in ("mine", "missed")] == ["", ""]
    assert not (node.folder / "early.json").exists(), "its URLs are secrets"


def test_files_are_written_and_whom_they_concern_is_told(node: Node) -> None:
    ran: list[tuple[str, ...]] = []
    space = script("early.py")
    folder = str(node.folder / "network") + "/"
    space["NETWORK"] = folder

    def run(*argv: str) -> bool:
        ran.append(argv)
        return argv[1] != "reload"  # as systemd 252 does so early

    space["run"] = run
    wanted = [
        {"path": f"{folder}10-x.network", "mode": 0o644, "content": "[Match]\nä\n"},
        {"path": f"{folder}10-x.netdev", "mode": 0o644, "content": "[NetDev]\nName=bond0\n"},
    ]
    for _ in range(2):  # again: nothing changed
        space["files"](wanted)
    assert (node.folder / "network" / "10-x.network").read_text() == "[Match]\nä\n"
    unit = "systemd-networkd.service"
    assert ran == [
        ("systemctl", "is-active", "--quiet", unit),
        ("systemctl", "reload", unit),
        ("systemctl", "restart", unit),
        (space["ONLINE"], "--timeout=30", "-i", "bond0"),
    ]


def test_a_running_daemon_takes_its_new_ntp_servers() -> None:
    """The real files' paths; nothing is written to them here."""
    ran: list[tuple[str, ...]] = []
    space = script("early.py", write=lambda *_: None, run=lambda *argv: ran.append(argv))
    wanted = [
        {"path": f.path, "mode": f.mode, "content": f.content}
        for f in networkd.files([], ["192.0.2.123"])
    ]
    space["files"](wanted)
    assert ran == [
        ("systemctl", "try-restart", "systemd-timesyncd.service"),
        ("systemctl", "try-restart", "chrony.service"),
    ]


def test_a_link_in_the_way_is_replaced_and_not_followed(node: Node) -> None:
    target = node.folder / "elsewhere"
    target.write_text("kept")
    (node.folder / "etc").mkdir()
    (node.folder / "etc" / "join").symlink_to(target)
    node.gateway.answers = {"/v1/parts/join": [200]}
    node.early(node.part("join"))
    assert target.read_text() == "kept"
    assert not (node.folder / "etc" / "join").is_symlink()


# --- the proof ----------------------------------------------------------------------------------


@pytest.mark.parametrize("statuses", [[204], [503, 502, 204]], ids=str)
def test_the_proof_is_sent_until_it_is_taken(node: Node, statuses: list[int]) -> None:
    node.gateway.answers = {"/v1/phone-home": list(statuses)}
    kept = node.folder / "kept"
    kept.mkdir()
    (kept / "parts.json").write_text("{}")
    space = script("phone_home.py", PAUSE=0.05, KEPT=kept)
    path = node.folder / "phone-home.json"
    config = {"url": f"{node.gateway.url}/v1/phone-home", "token": "t", "ca": node.gateway.ca}
    path.write_text(json.dumps(config | {"first_boot": {"cloud_init": {}, "parts": []}}))
    space["main"](path)
    assert len(node.gateway.posted) == len(statuses)
    assert node.gateway.posted[-1]["token"] == "t"
    assert not path.exists(), "the token is a secret"
    assert not kept.exists(), "nothing of it is needed again"


def test_a_proof_that_is_refused_is_not_sent_again(node: Node) -> None:
    node.gateway.answers = {"/v1/phone-home": [404]}
    kept = node.folder / "kept"
    kept.mkdir()
    (kept / "parts.json").write_text("{}")
    space = script("phone_home.py", PAUSE=0.05, KEPT=kept)
    path = node.folder / "phone-home.json"
    config = {"url": f"{node.gateway.url}/v1/phone-home", "token": "t", "ca": node.gateway.ca}
    path.write_text(json.dumps(config | {"first_boot": {"cloud_init": {}, "parts": []}}))
    with pytest.raises(space["urllib"].error.HTTPError):
        space["main"](path)
    assert len(node.gateway.posted) == 1
    assert not path.exists()
    assert not kept.exists()
