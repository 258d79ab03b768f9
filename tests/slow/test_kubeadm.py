"""A control plane of kubeadm on a booted server whose image has no Kubernetes: all that needs none
is there and runs, the step that needs it names the file and goes on once somebody put it there.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from seed.lab.demo import Demo
from tests.fakes.filled import has_gpt
from tests.fakes.machine import traces, until
from tests.slow.booted import a_room, events, line_of, on, ready, told, wish
from tests.slow.log import Log

NAMESPACE = "seed-kubeadm-slow"
HOME = Path("/var/tmp/seed-kubeadm-slow")  # noqa: S108  the services' own users must be able to enter it
KUBEADM = """\
name: web
kind: kubeadm
version: 1.36.2
image: kubernetes-node
api: {network: storage}
control: {count: 1, layout: plain}
"""
MEMBER = "web-control-0"
FIRST = ["containerd", "resolver", "pod network", "load balancer", "address"]
"""Steps that are over without any program of Kubernetes."""
# Who serves at the address once there is an API: here a program of the image does.
ANSWERS = """\
import http.server, ssl
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
server = http.server.ThreadingHTTPServer(("0.0.0.0", 6444), Ready)
trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
trust.load_cert_chain("/run/api.crt", "/run/api.key")
server.socket = trust.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
# kubeadm's own words for what the steps ask of it; nothing else of it is here.
STAND_IN = """\
#!/bin/sh
case "$*" in
  "config images list"*) echo "registry.invalid/pause:3.10" ;;
  init*) echo "this kubeadm is none" >&2; exit 7 ;;
  *) exit 1 ;;
esac
"""
SETTINGS = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "vm.overcommit_memory": "1",
    "kernel.panic": "10",
}


@pytest.fixture
def room() -> Iterator[Demo]:
    demo = a_room(HOME, NAMESPACE, ("server1",))
    try:
        yield demo
    finally:
        demo.end()


@pytest.mark.slow(
    "provisioning/kinds/kubeadm.py", "provisioning/kinds/_kubeadm.py",
    "provisioning/kinds/_kubeadm_steps.py", "provisioning/kinds/_vip.py",
    "provisioning/kinds/_bridge.py", "provisioning/on_node", "images/recipes/kubernetes_node.py",
    "tests/slow/booted.py", "tests/slow/test_kubeadm.py",
)  # fmt: skip
@pytest.mark.timeout(5400)
def test_kubeadm(log: Log, room: Demo) -> None:
    before = traces(NAMESPACE)
    ready(room)
    wish(room, "plan", KUBEADM)
    wish(room, "create", KUBEADM)
    with room.phase("from the wish to the missing program"):
        until(lambda: "/usr/local/bin/kubeadm" in problem(room), 2400, "the missing file's name")
    log.say(room.seed("cluster", "show", "web"))
    cluster = room.look_at("/clusters/web")
    assert cluster["state"] == "bootstrapping"
    for line in told(room, cluster["id"]):
        log.say(line)
    assert over(room, cluster["id"])[: len(FIRST)] == FIRST
    assert any("/usr/local/bin/kubeadm" in line for line in told(room, cluster["id"]))

    assert (
        on(log, room, MEMBER, "systemctl is-active containerd haproxy keepalived").split()
        == ["active"] * 3
    )
    for name, value in SETTINGS.items():
        assert on(log, room, MEMBER, f"sysctl -n {name}").strip() == value, name
    assert on(log, room, MEMBER, "stat -c %a /etc/kubernetes/pki/ca.key").strip() == "600"
    on(log, room, MEMBER, "systemd-analyze verify seed-pods.service")
    on(log, room, MEMBER, "systemctl is-active seed-pods.service")
    on(log, room, MEMBER, "ctr --namespace k8s.io images list")
    vip = cluster["vip"]
    assert f" {vip}/32 " in on(log, room, MEMBER, "ip -o address")
    answered_through_haproxy(log, room, vip)

    for name in ("kubeadm", "kubelet", "kubectl"):
        put(room, f"/usr/local/bin/{name}", STAND_IN, "755")
    until(lambda: "this kubeadm is none" in says(room), 600, "what the next step says")
    assert over(room, cluster["id"])[-2:] == ["kubelet", "sandbox image"]
    assert "/usr/local/bin/kubeadm" not in problem(room)
    pause = on(log, room, MEMBER, "containerd config dump")
    assert "registry.invalid/pause:3.10" in pause

    room.seed("cluster", "release", "web", "--now", "--yes")
    with room.phase("release and clean"):
        until(lambda: room.look_at("/clusters/web")["state"] == "released", 1800, "released")
    room.follow_nodes("available")
    assert not has_gpt(room, "LAB-0001-D0")
    assert room.ask("network", "show", "storage")["addresses"] == []
    for name, took in room.seconds.items():
        log.say(f"{name}: {took:.0f} s")
    room.end()
    assert traces(NAMESPACE) == before


def problem(room: Demo) -> str:
    return str(room.look_at("/clusters/web")["problem"])


def says(room: Demo) -> str:
    """What its member is at, and what that said last."""
    (member,) = room.look_at("/clusters/web")["members"]
    return f"{member['step']}: {member['step_detail']}"


def over(room: Demo, cluster: str) -> list[str]:
    """The steps of its one member that are over, in the order in which they were."""
    texts = [e["message"] for e in events(room, cluster) if e["kind"] == "member.step"]
    return [
        text.removeprefix(f"{MEMBER}: ").removesuffix(" done")
        for text in texts if text.endswith(" done")
    ]  # fmt: skip


def answered_through_haproxy(log: Log, room: Demo, vip: str) -> None:
    """With what stands in for the API server, whose certificate is of the cluster's own CA."""
    pki = "/etc/kubernetes/pki"
    put(room, "/run/api.py", ANSWERS)
    on(
        log, room, MEMBER,
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=api "
        "-keyout /run/api.key -out /run/api.csr && "
        f"echo subjectAltName=IP:{vip} | openssl x509 -req -in /run/api.csr -out /run/api.crt "
        f"-CA {pki}/ca.crt -CAkey {pki}/ca.key -days 1 -extfile /dev/stdin",
    )  # fmt: skip
    on(log, room, MEMBER, "systemd-run --unit api-stand-in python3 /run/api.py")
    asks = f"curl -sS --max-time 10 --cacert {pki}/ca.crt https://{vip}:6443/readyz"
    until(lambda: on(log, room, MEMBER, f"{asks} || true") == "ok", 300, "the address answers")
    on(log, room, MEMBER, "systemctl stop api-stand-in")


def put(room: Demo, path: str, text: str, mode: str = "644") -> None:
    command = f"sudo install -m {mode} /dev/stdin {path}"
    argv = [*line_of(room, MEMBER), command]
    subprocess.run(argv, input=text, text=True, timeout=300, check=True)
