"""What the kind kubeadm writes, read and done by the programs that it is for: haproxy, keepalived,
Debian's CNI plugins, nft, iproute2 and kubectl. The servers are namespaces of this machine.
"""

import json
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provisioning import kube_objects, pki
from provisioning.kinds import ClusterFacts, MemberFacts
from provisioning.kinds.kubeadm import PLUGIN
from seed.host import netns
from tests.fakes.appliance import base_folder, until
from tests.fakes.kubeconfigs import a_kubeconfig
from tests.fakes.programs import running
from tests.fakes.unpacked import NotThere, Unpacked, unpack
from tests.fakes.wire import appliance_namespace, client_namespace, ip

VIP, PORT = "10.30.0.14", 6443
MEMBERS = tuple(
    MemberFacts(f"c{n}", "control", n == 0, f"uuid-{n}", f"10.30.0.{2 + n}/28", "eth0")
    for n in range(3)
)
FACTS = ClusterFacts(
    "id", "web", "1.36.2", VIP, PORT, "10.244.0.0/20", "10.96.0.0/16", "cluster.local", MEMBERS
)
CLIENT = "10.30.0.13"
PACKAGES = ("haproxy", "keepalived", "nftables", "containernetworking-plugins", "kubernetes-client")
ROUTES, CONFLIST = "/etc/seed/pods/routes", "/etc/cni/net.d/10-seed.conflist"
MASQUERADE = "/etc/seed/pods/masquerade.nft"
HAPROXY, KEEPALIVED = "/etc/haproxy/haproxy.cfg", "/etc/keepalived/keepalived.conf"


@pytest.fixture(scope="module")
def programs() -> Iterator[Unpacked]:
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: haproxy, keepalived, CNI: namespaces need root")
    with base_folder() as folder:
        try:
            yield unpack(folder, "haproxy", "keepalived", "nftables", "containernetworking-plugins")
        except NotThere as why:
            pytest.skip(f"NOT CHECKED: haproxy, keepalived, CNI: they cannot be had here: {why}")


@dataclass
class Server:
    """A control plane: its namespace `name`, its files below `folder`."""

    name: str
    member: MemberFacts
    folder: Path
    programs: Unpacked
    stack: ExitStack
    begun: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def write(self, secrets: dict[str, str]) -> None:
        for part in PLUGIN.files(FACTS, self.member, secrets):
            path = self.folder / part.path[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(part.content)
            path.chmod(part.mode)
        # Accounts and folders of packages that are not installed here.
        config = self.path(HAPROXY)
        told = re.sub(r"(?m)^    (user|group|chroot|log) .*\n", "", config.read_text())
        config.write_text(told)

    def path(self, path: str) -> Path:
        return self.folder / path[1:]

    def run(self, *argv: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*netns.prefix(self.name), *argv], input=given, capture_output=True, text=True,
            timeout=20, check=False, env={**os.environ, **self.programs.env, **env},
        )  # fmt: skip

    def begin(self, name: str, *argv: str) -> None:
        program = self.programs.program(argv[0])
        self.begun[name] = self.stack.enter_context(
            running(self.name, [program, *argv[1:]], self.folder, self.programs.env)
        )

    def balance(self) -> None:
        self.begin("haproxy", "usr/sbin/haproxy", "-db", "-f", str(self.path(HAPROXY)))

    def move(self) -> None:
        """As its unit starts it, with files of its own for its processes' ids."""
        pids = [f"--{one}={self.folder}/{one}" for one in ("pid", "vrrp_pid", "checkers_pid")]
        argv = ("--dont-fork", "--log-console", "--vrrp", "-f", str(self.path(KEEPALIVED)))
        self.begin("keepalived", "usr/sbin/keepalived", *argv, *pids)

    def serve(self) -> None:
        """An API server as haproxy sees one: TLS, and 200 to any GET."""
        key, certificate = self.folder / "key.pem", self.folder / "cert.pem"
        made = self.run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=api", "-keyout", str(key), "-out", str(certificate),
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        self.begin(
            "api", "usr/bin/openssl", "s_server", "-accept", "6444", "-www", "-quiet",
            "-key", str(key), "-cert", str(certificate),
        )  # fmt: skip

    def has_address(self) -> bool:
        own = netns.addresses(self.name)["eth0"]
        return VIP in {str(one.ip) for one in own}


@dataclass(frozen=True)
class Rack:
    servers: list[Server]
    client: str

    def connects(self) -> bool:
        def tries() -> bool:
            with socket.socket() as line:
                line.settimeout(2)
                return line.connect_ex((VIP, PORT)) == 0

        return netns.call(self.client, tries)

    def answers(self) -> bool:
        argv = ["curl", "--silent", "--insecure", "--max-time", "2", "--fail", "--output",
                "/dev/null", f"https://{VIP}:{PORT}/readyz"]  # fmt: skip
        return netns.run(self.client, argv, 10).returncode == 0

    def holder(self) -> Server | None:
        """Who has the address; None as long as that is nobody, or more than one."""
        having = [server for server in self.servers if server.has_address()]
        return having[0] if len(having) == 1 else None


@contextmanager
def a_rack(programs: Unpacked, folder: Path) -> Iterator[Rack]:
    secrets, top = PLUGIN.secrets(FACTS), f"k{os.getpid() % 100000}"
    with ExitStack() as stack:
        stack.enter_context(appliance_namespace(top, {"prov0": "10.30.0.1/28"}))
        servers = []
        for number, member in enumerate(MEMBERS):
            name = stack.enter_context(client_namespace(top, f"{top}-{number}m"))
            ip("-n", name, "address", "add", member.address, "dev", "eth0")
            own = Server(name, member, folder / member.name, programs, stack)
            own.write(secrets)
            own.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
            servers.append(own)
        client = stack.enter_context(client_namespace(top, f"{top}-9m"))
        ip("-n", client, "address", "add", f"{CLIENT}/28", "dev", "eth0")
        yield Rack(servers, client)


@pytest.fixture
def rack(programs: Unpacked, tmp_path: Path) -> Iterator[Rack]:
    with a_rack(programs, tmp_path) as found:
        yield found


def test_haproxy_reads_its_file_and_would_not_read_another(rack: Rack) -> None:
    own = rack.servers[0]
    program, path = own.programs.program("usr/sbin/haproxy"), own.path(HAPROXY)
    good = own.run(program, "-c", "-V", "-f", str(path))
    assert (good.returncode, good.stderr) == (0, ""), good.stderr
    path.write_text(path.read_text().replace("default-server verify none\n", "\n"))
    assert own.run(program, "-c", "-f", str(path)).returncode != 0


@pytest.mark.parametrize("number", range(3))
def test_keepalived_reads_its_file_and_would_not_read_another(rack: Rack, number: int) -> None:
    own = rack.servers[number]
    program, path = own.programs.program("usr/sbin/keepalived"), own.path(KEEPALIVED)
    good = own.run(program, "--config-test", "-f", str(path))
    # 2.2.7 ends itself with SIGTERM after each test, and what it says is what counts.
    assert good.returncode in (0, -15)
    assert good.stdout + good.stderr == ""
    path.write_text(path.read_text().replace("nopreempt", "nopreemption"))
    bad = own.run(program, "--config-test", "-f", str(path))
    assert "nopreemption" in bad.stdout + bad.stderr


def test_the_address_answers_before_any_api_and_moves_with_haproxys_death(rack: Rack) -> None:
    for own in rack.servers:
        own.balance()
    for own in rack.servers:
        own.move()
    until(lambda: rack.holder() is not None, 20, "one server with the address")
    until(rack.connects, 10, "a connection by the address")
    assert not rack.answers(), "there is no API server yet"
    first = rack.holder()
    assert first
    other = next(own for own in rack.servers if own is not first)
    other.serve()
    until(rack.answers, 15, "the API of a server that has not the address")
    first.begun["haproxy"].kill()
    until(lambda: rack.holder() not in (None, first), 20, "the address on another server")
    until(rack.answers, 15, "the API again")


def test_a_cluster_of_one_has_its_address(rack: Rack) -> None:
    own = rack.servers[0]
    alone = replace(FACTS, members=MEMBERS[:1])
    parts = {p.path: p.content for p in PLUGIN.files(alone, MEMBERS[0], PLUGIN.secrets(alone))}
    own.path(KEEPALIVED).write_bytes(parts[KEEPALIVED])
    own.balance()
    own.move()
    until(own.has_address, 20, "the address")


# --- pods -----------------------------------------------------------------------------------------


def add_pod(own: Server, pod: str) -> str:
    """A container's namespace `pod` gets its network, as containerd does it; its address."""
    conflist = json.loads(own.path(CONFLIST).read_text())
    plugin = dict(conflist["plugins"][0], name=conflist["name"], cniVersion=conflist["cniVersion"])
    plugin["ipam"]["dataDir"] = str(own.folder / "leases")
    folder = own.programs.root / "usr/lib/cni"
    done = own.run(
        str(folder / "bridge"), given=json.dumps(plugin), CNI_COMMAND="ADD", CNI_CONTAINERID=pod,
        CNI_NETNS=f"/run/netns/{pod}", CNI_IFNAME="eth0", CNI_PATH=str(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    address: str = json.loads(done.stdout)["ips"][0]["address"]
    return address.partition("/")[0]


@contextmanager
def pods(rack: Rack) -> Iterator[list[tuple[str, str]]]:
    """One on each of the first two servers: its namespace and its address."""
    with ExitStack() as stack:
        found = []
        for own in rack.servers[:2]:
            done = own.run("/usr/sbin/ip", "-batch", str(own.path(ROUTES)))
            assert done.returncode == 0, done.stderr
            pod = f"{own.name}-pod"
            ip("netns", "add", pod)
            stack.callback(ip, "netns", "delete", pod)
            found.append((pod, add_pod(own, pod)))
        yield found


def seen_from(source: str, target: str, address: str) -> str:
    """As whom a server in namespace `target` sees a client in `source`; "": not at all."""

    def listens() -> socket.socket:
        return socket.create_server((address, 8080))

    def connects() -> bool:
        with socket.socket() as line:
            line.settimeout(3)
            return line.connect_ex((address, 8080)) == 0

    with netns.call(target, listens) as server:
        server.settimeout(3)
        if not netns.call(source, connects):
            return ""
        line, (who, _) = server.accept()
        line.close()
    return str(who)


def test_pods_reach_each_other_as_themselves(rack: Rack) -> None:
    with pods(rack) as ((one, first), (other, second)):
        assert (first, second) == ("10.244.2.2", "10.244.3.2")
        assert seen_from(one, other, second) == first
        assert seen_from(other, one, first) == second


def test_pods_reach_the_world_as_their_node(rack: Rack) -> None:
    with pods(rack) as ((one, _), (other, second)):
        assert seen_from(one, rack.client, CLIENT) == "", "nobody out there knows pods"
        own = rack.servers[0]
        nft, path = own.programs.program("usr/sbin/nft"), str(own.path(MASQUERADE))
        for _ in range(2):
            done = own.run(nft, "-f", path)
            if "not supported" in done.stderr or "No such file" in done.stderr:
                pytest.skip(f"NOT CHECKED: masquerading: this kernel says {done.stderr.strip()}")
            assert done.returncode == 0, done.stderr
        assert own.run(nft, "list", "ruleset").stdout.count("masquerade") == 1
        assert seen_from(one, rack.client, CLIENT) == "10.30.0.2"
        assert seen_from(one, other, second) == "10.244.2.2"


def test_routes_may_be_set_again(rack: Rack) -> None:
    own = rack.servers[0]
    for _ in range(2):
        done = own.run("/usr/sbin/ip", "-batch", str(own.path(ROUTES)))
        assert done.returncode == 0, done.stderr
    assert own.run("ip", "route").stdout.count("10.244.") == 13


# --- people ---------------------------------------------------------------------------------------


def trusting(folder: Path, secrets: dict[str, str]) -> ssl.SSLContext:
    """As kube-apiserver: a certificate of the cluster's CA for 127.0.0.1, and clients of it."""
    ca, ca_key, key, request = (folder / name for name in ("ca.crt", "ca.key", "key", "csr"))
    ca.write_text(secrets["ca.crt"])
    ca_key.write_text(secrets["ca.key"])
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    for argv in (
        ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         "/CN=kube-apiserver", "-keyout", key, "-out", request],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days",
         "1", "-extfile", folder / "san", "-out", folder / "crt"],
    ):  # fmt: skip
        subprocess.run(["openssl", *argv], check=True, timeout=20, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "crt", key)
    return context


@contextmanager
def an_api(context: ssl.SSLContext) -> Iterator[tuple[int, list[Any]]]:
    """Its port, and the subjects of the clients that came in."""
    seen: list[Any] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            with line, suppress(OSError), context.wrap_socket(line, server_side=True) as inside:
                inside.recv(65536)
                seen.append(inside.getpeercert())
                inside.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                )

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], seen
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(10)


def kubectl(programs: Unpacked, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    config = folder / "kubeconfig"
    config.write_text(text)
    return subprocess.run(
        [programs.program("usr/bin/kubectl"), "--kubeconfig", config, "--request-timeout", "5s",
         "get", "--raw", "/readyz"],
        capture_output=True, text=True, timeout=30, check=False, env={"HOME": str(folder)},
    )  # fmt: skip


def lost(told: Any, read: Any, where: str = "") -> list[str]:
    """What of `told` is not in `read`."""
    if isinstance(told, dict) and isinstance(read, dict):
        return [
            path
            for key, word in told.items()
            for path in lost(word, read.get(key), f"{where}.{key}")
        ]
    if isinstance(told, list) and isinstance(read, list) and len(told) == len(read):
        return [
            p
            for n, pair in enumerate(zip(told, read, strict=True))
            for p in lost(*pair, f"{where}.{n}")
        ]
    return [] if told == read else [where]


def test_kubectl_knows_every_field_of_what_a_check_makes(programs: Unpacked) -> None:
    """It drops what a Pod or a Service has not, as the API server would refuse it."""
    pods = [
        kube_objects.pod("ns", "pod", "image"),
        kube_objects.pod("ns", "dns", "image", ("nslookup", "name"), once=True),
        kube_objects.pod("ns", "disk", "image", volume=True),
        kube_objects.web("ns", "image"),
    ]
    wrong = kube_objects.pod("ns", "pod", "image")
    wrong["spec"]["nonsense"] = True
    verbs = [(pod, ("env", "X=y")) for pod in (*pods, wrong)]
    verbs.append((kube_objects.service("ns"), ("selector", "app=web")))
    found = []
    for document, (verb, word) in verbs:
        argv = [programs.program("usr/bin/kubectl"), "set", verb, "--local", "-f", "-", word]
        done = subprocess.run(
            [*argv, "-o", "json"], input=json.dumps(document), capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        found += lost(document, json.loads(done.stdout))
    assert found == [".spec.nonsense"]


def test_kubectl_gets_in_with_a_kubeconfig_and_with_no_other(
    programs: Unpacked, tmp_path: Path
) -> None:
    secrets, other = PLUGIN.secrets(FACTS), PLUGIN.secrets(FACTS)
    ada, now = pki.Person("ada", ("seed:lab",)), datetime.now(UTC)
    with an_api(trusting(tmp_path, secrets)) as (port, seen):
        server = f"https://127.0.0.1:{port}"

        def tried(ca: str, key: str, at: datetime) -> subprocess.CompletedProcess[str]:
            pair = pki.Pair(ca, key)
            return kubectl(programs, tmp_path, a_kubeconfig(pair, server, ada, at))

        good = tried(secrets["ca.crt"], secrets["ca.key"], now)
        assert (good.returncode, good.stdout) == (0, "ok"), good.stderr
        came = len(seen)
        late = tried(secrets["ca.crt"], secrets["ca.key"], now - timedelta(hours=13))
        stranger = tried(other["ca.crt"], other["ca.key"], now)
    assert late.returncode != 0
    assert "unknown authority" in stranger.stderr
    assert len(seen) == came, "nobody else"
    subject = [name for (name,) in seen[0]["subject"]]
    assert subject == [("organizationName", "seed:lab"), ("commonName", "ada")]
