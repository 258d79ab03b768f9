"""Docker Swarm of Debian's docker.io (20.10 and 26.1 were seen): needs no download.

Its join tokens cannot be chosen: the first manager makes them, and hands them to the others through
the node gateway, sealed with keys that only this cluster's nodes have. Roles: control = manager.
The addresses of overlay networks come of pod_cidr, those of each node's own bridges of
service_cidr. vip: a manager has it, so published services answer there too, and at api_port what
managers serve (port 2377); it may be left out. What calls Docker on the nodes:
provisioning/on_node/swarm.py.
"""

import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from secrets import token_hex

from provisioning import on_node
from provisioning.kinds import (
    NAME,
    ClusterFacts,
    Fault,
    Fresh,
    KubeApi,
    MemberFacts,
    Step,
    _skew,
    _vip,
    part,
)
from provisioning.kinds._vip import bare, control_planes
from provisioning.on_node import MEMBER
from provisioning.targets import PartSpec

_SUBNET, _SMALLEST = 24, 22
"""Prefix lengths: of each network that Docker makes, and of a pool with room for a few of them."""
_DAEMON, _TRUSTED = "/etc/docker/daemon.json", "/etc/docker/certs.d/{host}/ca.crt"
_TOKEN = "/var/lib/seed-member/swarm-token"  # noqa: S105 - a path
_KEY, _MANAGER_KEY = f"{MEMBER}/key", f"{MEMBER}/manager.key"
_SWARM, _FACTS = f"{MEMBER}/swarm.py", f"{MEMBER}/swarm.json"
_REGISTRY = re.compile(r"(https?://)?[A-Za-z0-9.-]+(:[0-9]{1,5})?/?")
_PORT = 2377
_BEAT, _BEATS = "heartbeat_seconds", (5, 600)
"""How often a node tells a manager that it lives; three times that without, and its tasks go
elsewhere. Emulated nodes may need longer than Docker's 5 s."""
_TAKEN = {22: "sshd's", _PORT: "the swarm's", 7946: "the swarm's"}


# --- faults -------------------------------------------------------------------------------------


def _count(facts: ClusterFacts) -> list[Fault]:
    count = len(control_planes(facts))
    if count % 2:
        return []
    if not count:
        return [Fault("control.count", "a swarm needs a manager", "Ask for 1 or 3.")]
    problem = f"a majority of {count} managers bears no more losses than one of {count - 1}"
    return [Fault("control.count", problem, f"Ask for {count - 1} or {count + 1}.")]


def _pool(field: str, text: str) -> list[Fault]:
    remedy = "Write an IPv4 range, e.g. 10.244.0.0/16."
    try:
        net = IPv4Network(text)
    except ValueError:
        return [Fault(field, f"{text!r} is not a range of IPv4 addresses", remedy)]
    if net.prefixlen > _SMALLEST:
        return [Fault(field, f"{net} has no room: Docker's pools are /{_SMALLEST} here", remedy)]
    return []


def _overlaps(facts: ClusterFacts) -> list[Fault]:
    """Of the two pools, with each other and with what the members are on."""
    pods, services = IPv4Network(facts.pod_cidr), IPv4Network(facts.service_cidr)
    remedy = "Choose a range that nothing else has: `seed network list`."
    found = []
    if pods.overlaps(services):
        found.append(Fault("service_cidr", f"{services} overlaps pod_cidr {pods}", remedy))
    wires = sorted({IPv4Interface(member.address).network for member in facts.members})
    for field, pool in (("pod_cidr", pods), ("service_cidr", services)):
        for wire in filter(pool.overlaps, wires):
            found.append(Fault(field, f"{pool} overlaps the members' network {wire}", remedy))
    return found


def _not_ipv4(facts: ClusterFacts) -> list[Fault]:
    """Docker's overlay networks over IPv6 were not tried."""
    found = []
    for member in facts.members:
        try:
            IPv4Interface(member.address)
        except ValueError:
            problem = f"{member.name} has {member.address} in the network of role api: no IPv4"
            remedy = "Take a layout whose network of role api has IPv4."
            found.append(Fault("networks", problem, remedy))
    return found


def _drains(member: MemberFacts, taint: str) -> bool:
    """Swarm has no taints. A manager may be without tasks; a worker without any is none."""
    return member.role == "control" and taint.endswith((":NoSchedule", ":NoExecute"))


def _taints(facts: ClusterFacts) -> list[Fault]:
    remedy = "Leave it out, and place services by label: --constraint node.labels.KEY==VALUE."
    found = []
    for member in facts.members:
        group = "control" if member.role == "control" else "workers"
        for taint in member.taints:
            if not _drains(member, taint):
                problem = f"a swarm has nothing like the taint {taint} of {member.name}"
                found.append(Fault(f"{group}.node_taints", problem, remedy))
    return found


def _words(facts: ClusterFacts) -> list[Fault]:
    found = [
        Fault(f"options.{name}", f"the kind swarm has no option {name!r}", f"Leave out {name}.")
        for name in sorted(set(facts.options) - {_BEAT, "files"})  # a bundle's are images alone
    ]
    beat = facts.options.get(_BEAT, _BEATS[0])
    if type(beat) is not int or not _BEATS[0] <= beat <= _BEATS[1]:
        problem = f"{beat!r} is no number of seconds from {_BEATS[0]} to {_BEATS[1]}"
        found.append(Fault(f"options.{_BEAT}", problem, "Leave it out: 5, as Docker has it."))
    if facts.registry and not _REGISTRY.fullmatch(facts.registry):
        problem = f"{facts.registry!r} cannot be a mirror: Docker's have a host and a port, no path"
        found.append(Fault("registry", problem, "Write https://HOST:PORT."))
    return found


# --- what a member gets -------------------------------------------------------------------------


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
    managers = sorted(control_planes(facts), key=lambda one: not one.first)
    told = {
        "role": "manager" if member.role == "control" else "worker",
        "first": member.first,
        "address": bare(member),
        "managers": [bare(one) for one in managers],
        "pool": facts.pod_cidr,
        "subnet_size": _SUBNET,
        "heartbeat_seconds": facts.options.get(_BEAT, _BEATS[0]),
        "availability": "drain" if any(_drains(member, t) for t in member.taints) else "active",
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
    kube: KubeApi | None = None

    def faults(self, facts: ClusterFacts) -> list[Fault]:
        if found := _not_ipv4(facts):
            return found
        pools = _pool("pod_cidr", facts.pod_cidr) + _pool("service_cidr", facts.service_cidr)
        about_vip = _vip.faults(facts, _TAKEN) if facts.vip else []
        return [
            *_count(facts),
            *about_vip,
            *(pools or _overlaps(facts)),
            *_taints(facts),
            *_words(facts),
        ]

    def secrets(self, facts: ClusterFacts) -> dict[str, str]:
        """Two keys: a worker cannot open what makes managers. "vrrp": keepalived's."""
        return {
            "key": token_hex(32), "manager-key": token_hex(32), "vrrp": _vip.new_password(),
        }  # fmt: skip

    def files(
        self, facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
    ) -> list[PartSpec]:
        script = Path(on_node.__file__).with_name("swarm.py").read_text()
        found = [
            part(_KEY, f"{secrets['key']}\n", 0o600),
            part(_DAEMON, _daemon(facts, member)),
            part(_FACTS, _swarm(facts, member)),
            part(_SWARM, script, 0o755),
        ]
        if facts.registry_ca:
            host = facts.registry.rpartition("://")[2].rstrip("/")
            found.append(part(_TRUSTED.format(host=host), facts.registry_ca))
        if member.role == "control":
            found.append(part(_MANAGER_KEY, f"{secrets['manager-key']}\n", 0o600))
            if facts.vip:
                found += _vip.parts(facts, member, secrets["vrrp"], _PORT)
        return found

    def steps(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        begun = [
            Step(
                "docker",
                ("systemctl", "enable", "--now", "docker.service"),
                wants=("/usr/sbin/dockerd", _DAEMON, _SWARM, _FACTS),
                try_seconds=600,
            ),
            _token(member),
            Step("swarm", _call("swarm.py", "join"), try_seconds=300, pause_seconds=2),
        ]
        if member.first:
            wants = (_KEY, _MANAGER_KEY)
            begun.append(Step("tokens", _call("swarm.py", "tokens"), wants, pause_seconds=2))
        if member.role == "control" and facts.vip:
            begun += _vip.steps(facts)
        return begun

    def check(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        """For on_node.member, every 30 s. The leader's also labels nodes and names lost ones."""
        return _call("swarm.py", "check")

    def tries(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        return _call("swarm.py", "try")

    def drain(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        """Of a manager: it is none any more, too."""
        return [Step("drain", _call("swarm.py", "drain", NAME), (_FACTS,), patience_seconds=600)]

    def leave(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        before = _vip.leave() if member.role == "control" and facts.vip else []
        return [*before, Step("leave", _call("swarm.py", "leave"), (_FACTS,), pause_seconds=2)]

    def forget(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return [Step("forget", _call("swarm.py", "forget", NAME), (_FACTS,), patience_seconds=600)]

    def fresh(self, facts: ClusterFacts, member: MemberFacts) -> list[Fresh]:
        return _vip.fresh(facts, member, _PORT) if facts.vip else []

    def skew(self, was: str, to: str) -> Fault | None:
        """Managers of neighbouring versions understand each other's raft; older ones may not."""
        return _skew.no_way_back(was, to)


PLUGIN = Swarm()
