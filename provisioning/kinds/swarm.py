"""Docker Swarm of Debian's docker.io (tried with 20.10 and, by hand, 26.1): needs no download.

Its join tokens cannot be chosen: the first manager makes them, and hands them to the others through
the node gateway, sealed with keys that only this cluster's nodes have. Roles: control = manager.
The addresses of overlay networks come of pod_cidr, those of each node's own bridges of
service_cidr. What calls Docker on the nodes: provisioning/on_node/swarm.py.
"""

import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network
from pathlib import Path
from secrets import token_hex

from provisioning import on_node
from provisioning.kinds import ClusterFacts, Fault, MemberFacts, Step
from provisioning.on_node import MEMBER
from provisioning.targets import PartSpec

_SUBNET, _SMALLEST = 24, 22
"""Prefix lengths: of each network that Docker makes, and of a pool with room for a few of them."""
_DAEMON = "/etc/docker/daemon.json"
_TOKEN = "/var/lib/seed-member/swarm-token"  # noqa: S105 - a path
_KEY, _MANAGER_KEY = f"{MEMBER}/key", f"{MEMBER}/manager.key"
_SWARM, _FACTS = f"{MEMBER}/swarm.py", f"{MEMBER}/swarm.json"
_REGISTRY = re.compile(r"(https?://)?[A-Za-z0-9.-]+(:[0-9]{1,5})?/?")
_SCHEDULES_NOT = (":NoSchedule", ":NoExecute")


def _managers(facts: ClusterFacts) -> list[MemberFacts]:
    return [member for member in facts.members if member.role == "control"]


# --- faults -------------------------------------------------------------------------------------


def _count(facts: ClusterFacts) -> list[Fault]:
    count = len(_managers(facts))
    if count % 2:
        return []
    if not count:
        return [Fault("control.count", "a swarm needs a manager", "Ask for 1 or 3.")]
    problem = f"a majority of {count} managers bears no more losses than one of {count - 1}"
    return [Fault("control.count", problem, f"Ask for {count - 1} or {count + 1}.")]


def _pool(field: str, text: str) -> list[Fault]:
    remedy = "Write an IPv4 range, e.g. 10.244.0.0/16."
    try:
        net = ip_network(text)
    except ValueError:
        return [Fault(field, f"{text!r} is not a range of addresses", remedy)]
    if net.version != 4 or net.prefixlen > _SMALLEST:
        problem = f"{net}: Docker's pools are IPv4 and of /{_SMALLEST} at least"
        return [Fault(field, problem, remedy)]
    return []


def _overlaps(facts: ClusterFacts) -> list[Fault]:
    """Of the two pools, with each other and with what the members are on."""
    pods, services = IPv4Network(facts.pod_cidr), IPv4Network(facts.service_cidr)
    remedy = "Choose a range that nothing else has: `seed network list`."
    found = []
    if pods.overlaps(services):
        found.append(Fault("service_cidr", f"{services} overlaps pod_cidr {pods}", remedy))
    wires = {ip_interface(member.address).network for member in facts.members}
    for field, pool in (("pod_cidr", pods), ("service_cidr", services)):
        for wire in sorted(str(net) for net in wires if net.version == 4 and net.overlaps(pool)):
            found.append(Fault(field, f"{pool} overlaps the members' network {wire}", remedy))
    return found


def _addresses(facts: ClusterFacts) -> list[Fault]:
    found = []
    for member in facts.members:
        own = ip_interface(member.address)
        if own.version != 4:
            problem = f"{member.name} has {own.ip}: a swarm's overlay networks go over IPv4 here"
            found.append(Fault("networks.api", problem, "Give the role api an IPv4 subnet."))
        if facts.vip and own.ip == ip_address(facts.vip):
            problem = f"{facts.vip} is the address of its member {member.name}"
            remedy = "Take one that no node has: `seed network show NAME`."
            found.append(Fault("vip", problem, remedy))
    return found


def _words(facts: ClusterFacts) -> list[Fault]:
    found = [
        Fault(f"options.{name}", f"the kind swarm has no option {name!r}", f"Leave out {name}.")
        for name in sorted(facts.options)
    ]
    if facts.registry and not _REGISTRY.fullmatch(facts.registry):
        problem = f"{facts.registry!r} cannot be a mirror: Docker's have a host and a port, no path"
        found.append(Fault("registry", problem, "Write https://HOST:PORT."))
    return found


# --- what a member gets -------------------------------------------------------------------------


def _availability(member: MemberFacts) -> str:
    """Swarm has no taints: what keeps pods away keeps tasks away."""
    return "drain" if any(taint.endswith(_SCHEDULES_NOT) for taint in member.taints) else "active"


def _daemon(facts: ClusterFacts, member: MemberFacts) -> str:
    """dockerd's daemon.json. A constraint's key takes no "/" (SwarmKit)."""
    told: dict[str, object] = {
        "default-address-pools": [{"base": facts.service_cidr, "size": _SUBNET}],
        "labels": [f"{key.replace('/', '.')}={v}" for key, v in sorted(member.labels.items())],
    }
    if facts.registry:
        plain = facts.registry.rstrip("/")
        told["registry-mirrors"] = [plain if "://" in plain else f"https://{plain}"]
        if plain.startswith("http://"):
            told["insecure-registries"] = [plain.removeprefix("http://")]
    return json.dumps(told, indent=2) + "\n"


def _swarm(facts: ClusterFacts, member: MemberFacts) -> str:
    """What on_node/swarm.py reads."""
    managers = sorted(_managers(facts), key=lambda one: not one.first)
    told = {
        "role": "manager" if member.role == "control" else "worker",
        "first": member.first,
        "address": str(ip_interface(member.address).ip),
        "managers": [str(ip_interface(one.address).ip) for one in managers],
        "pool": facts.pod_cidr,
        "subnet_size": _SUBNET,
        "availability": _availability(member),
        "version": facts.version,
    }
    return json.dumps(told, indent=2) + "\n"


def _call(file: str, *words: str) -> tuple[str, ...]:
    return ("python3", f"{MEMBER}/{file}", *words)


def _token(member: MemberFacts) -> Step:
    """The first looks only whether there is a swarm already: it may be a replacement."""
    verb = "find" if member.first else "get"
    name, key = "swarm-worker", _KEY
    if member.role == "control":
        name, key = "swarm-manager", _MANAGER_KEY
    argv = _call("member.py", verb, name, _TOKEN, key)
    return Step("token", argv, wants=(key,), try_seconds=600, pause_seconds=2)


@dataclass(frozen=True, slots=True)
class Swarm:
    name: str = "swarm"

    def faults(self, facts: ClusterFacts) -> list[Fault]:
        found = _count(facts) + _addresses(facts) + _words(facts)
        pools = _pool("pod_cidr", facts.pod_cidr) + _pool("service_cidr", facts.service_cidr)
        return found + (pools or _overlaps(facts))

    def secrets(self, facts: ClusterFacts) -> dict[str, str]:
        """Two: a worker cannot open what makes managers."""
        return {"key": token_hex(32), "manager-key": token_hex(32)}

    def files(
        self, facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
    ) -> list[PartSpec]:
        script = Path(on_node.__file__).with_name("swarm.py").read_bytes()
        found = [
            PartSpec(_KEY, _KEY, 0o600, f"{secrets['key']}\n".encode()),
            PartSpec(_DAEMON, _DAEMON, 0o644, _daemon(facts, member).encode()),
            PartSpec(_FACTS, _FACTS, 0o644, _swarm(facts, member).encode()),
            PartSpec(_SWARM, _SWARM, 0o755, script),
        ]
        if member.role == "control":
            content = f"{secrets['manager-key']}\n".encode()
            found.append(PartSpec(_MANAGER_KEY, _MANAGER_KEY, 0o600, content))
        return found

    def steps(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        begun = [
            Step(
                "docker",
                ("systemctl", "enable", "--now", "docker.service"),
                wants=("/usr/sbin/dockerd", _DAEMON, _SWARM, _FACTS),
            ),
            _token(member),
            Step("swarm", _call("swarm.py", "join"), try_seconds=300, pause_seconds=2),
        ]
        if member.first:
            wants = (_KEY, _MANAGER_KEY)
            begun.append(Step("tokens", _call("swarm.py", "tokens"), wants, pause_seconds=2))
        return begun

    def check(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        """For on_node.member, every 30 s. The leader's also labels nodes and names lost ones."""
        return _call("swarm.py", "check")


PLUGIN = Swarm()
