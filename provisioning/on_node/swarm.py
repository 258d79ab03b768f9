"""One member of a Docker Swarm, by Docker's own API: begun or joined, and looked after.

    swarm.py join      begin the swarm, or be in the one that there is
    swarm.py tokens    give the join tokens to the other members
    swarm.py check     this node is in it; on the leader: and labels are right, and all are there
    swarm.py leave     this node is in no swarm
    swarm.py drain NAME, forget NAME    on a manager: no work for that node; it is there no more
    swarm.py try NUMBER    on the leader: does a service work? Prints what was found; others nothing

Reads swarm.json beside it: role, first, address, managers (addresses), pool (CIDR of overlay
networks), subnet_size, availability, version. The `docker` command would not do: `swarm join` takes
the token in its argv, for all on the node to read. Paths have no API version: the daemon's own is
meant (seen with 20.10 and 26.1). Standard library only.
"""

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

HERE = Path(__file__).parent
SOCKET = "/run/docker.sock"
KEPT = Path("/var/lib/seed-member")
TOKEN = KEPT / "swarm-token"
MEMBER = ("python3", str(HERE / "member.py"))
KEYS = {"worker": HERE / "key", "manager": HERE / "manager.key"}
CALL_TIMEOUT, MEMBER_TIMEOUT, SETTLE_FOR, PAUSE = 60, 60, 30, 0.5  # seconds; joining answers in 20
PORT = 2377

LABEL, IMAGE = "org.seed.check", "localhost/seed-check"
BUSYBOX = Path("/bin/busybox")  # of Debian's busybox-static; a dynamic one would not run alone
APPLETS = ("echo", "grep", "httpd", "nc", "nslookup", "sh", "sleep", "tail")
ENDPOINT = {"Mode": "vip"}  # as services have it: an address of its own, by the kernel's IPVS
TRY_FOR, CLEAN_FOR, SAID = 300, 60, 250  # seconds, also of slow nodes; characters of a sentence
ITEMS, FAILS = ("pods", "dns", "service", "volume"), {"dns": 11, "service": 12, "volume": 13}
# Only a volume is a file system of its own there. nslookup asks Docker's own name server by itself;
# busybox-static's wget asks glibc, which is not there, and dies of it (seen with 1.35).
WEB = """\
grep -q ' /data ' /proc/mounts || exit 21
echo {number} >/data/mark && exec httpd -f -p 8080 -h /data
"""
ASK = """\
n=0
again() {{ n=$((n+1)); [ $n -lt 30 ] || exit $1; sleep 2; }}
found() {{ nslookup {web} 127.0.0.11 2>/dev/null | grep ^Address | grep -o '[0-9][0-9]*[.][0-9.]*' |
  grep -v '^127[.]' | tail -n 1; }}
while a=$(found); [ -z "$a" ]; do again 11; done
n=0
page() {{ printf 'GET /mark HTTP/1.0\\r\\n\\r\\n' | nc -w 5 "$a" 8080; }}
while t=$(page); [ -z "$t" ]; do again 12; done
[ "$(echo "$t" | tail -n 1)" = {number} ] || exit 13
"""


class Refused(Exception):
    """What dockerd said."""


class Docker(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def ask(method: str, path: str, body: Any = None) -> Any:  # noqa: ANN401
    """body: bytes are a tar."""
    link = Docker("docker", timeout=CALL_TIMEOUT)
    kind, sent = ("x-tar", body) if isinstance(body, bytes) else ("json", json.dumps(body))
    try:
        link.request(method, path, sent, {"Content-Type": f"application/{kind}"})
        answer = link.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as problem:
        raise Refused(f"dockerd does not answer: {type(problem).__name__}") from problem
    finally:
        link.close()
    told = json.loads(content) if content.strip() else None
    if answer.status >= 400:
        raise Refused(str(told.get("message") if isinstance(told, dict) else answer.status))
    return told


# --- join ---------------------------------------------------------------------------------------


def wanted_version(facts: dict[str, Any]) -> None:
    has, wanted = str(ask("GET", "/version")["Version"]).partition("+")[0], facts["version"]
    if wanted and not f"{has}.".startswith(f"{wanted}."):
        raise Refused(f"this image has Docker {has}, and {wanted} was asked for")


def settled() -> str:
    """Docker's LocalNodeState, once it is no more on its way: a restarted dockerd looks for its
    swarm first, and to make it leave would be to lose a member."""
    until = time.monotonic() + SETTLE_FOR
    while True:
        state = str(ask("GET", "/info")["Swarm"]["LocalNodeState"])
        if state in ("active", "inactive", "locked") or time.monotonic() > until:
            return state
        time.sleep(PAUSE)


def begin(facts: dict[str, Any], common: dict[str, Any]) -> None:
    beat = {"Dispatcher": {"HeartbeatPeriod": facts["heartbeat_seconds"] * 10**9}}
    more = {"DefaultAddrPool": [facts["pool"]], "SubnetSize": facts["subnet_size"], "Spec": beat}
    ask("POST", "/swarm/init", common | more)


def join_one_of(facts: dict[str, Any], common: dict[str, Any], token: str) -> None:
    """Of several RemoteAddrs dockerd asks the first only (seen in its source, daemon/cluster)."""
    said = "there is no other manager"
    for manager in facts["managers"]:
        if manager == facts["address"]:
            continue
        try:
            ask("POST", "/swarm/join", common | {
                "RemoteAddrs": [f"{manager}:{PORT}"], "JoinToken": token,
            })  # fmt: skip
        except Refused as problem:
            said = f"{manager}: {problem}".replace(token, "[secret]")
            forget()
        else:
            return
    raise Refused(said)


def forget() -> None:
    """A join that failed or goes on in vain."""
    if ask("GET", "/info")["Swarm"]["LocalNodeState"] != "inactive":
        ask("POST", "/swarm/leave?force=true")


def join(facts: dict[str, Any]) -> None:
    """Whoever is first begins only where nobody began before: it may be a replacement."""
    wanted_version(facts)
    state = settled()
    if state == "locked":
        raise Refused("this node's swarm is locked: `docker swarm unlock`")
    if state != "active":
        forget()
        common = {
            "ListenAddr": f"0.0.0.0:{PORT}", "AdvertiseAddr": f"{facts['address']}:{PORT}",
            "DataPathAddr": facts["address"], "Availability": facts["availability"],
        }  # fmt: skip
        if TOKEN.exists():
            join_one_of(facts, common, TOKEN.read_text().strip())
        elif facts["first"]:
            begin(facts, common)
        else:
            raise Refused(f"{TOKEN} is not there")
    TOKEN.unlink(missing_ok=True)


def tokens(_facts: dict[str, Any]) -> None:
    """Each under the key of those who may have it: a worker cannot read the managers' one."""
    for role, token in ask("GET", "/swarm")["JoinTokens"].items():
        name = role.lower()
        file = KEPT / f"swarm-{name}"
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(token)
        argv = [*MEMBER, "put", file.name, str(file), str(KEYS[name])]
        done = subprocess.run(argv, timeout=MEMBER_TIMEOUT, check=False)
        file.unlink()
        if done.returncode:
            raise Refused(f"the {name} token could not be handed over")


# --- check --------------------------------------------------------------------------------------


def update(node: dict[str, Any], **changes: Any) -> None:
    path = f"/nodes/{node['ID']}/update?version={node['Version']['Index']}"
    ask("POST", path, node["Spec"] | changes)


def label(node: dict[str, Any]) -> None:
    """Each node's daemon.json has its labels, as the seed knows them: so nodes that come later need
    nobody to know of them. Whoever is root there could change them, as all else of its swarm."""
    own = node["Description"]["Engine"].get("Labels") or {}
    has = node["Spec"].get("Labels") or {}
    if own.items() - has.items():
        update(node, Labels=has | own)


def drop_replaced(node: dict[str, Any]) -> None:
    """Another of its name is there: this one comes never again."""
    if node["Spec"]["Role"] == "manager":
        update(node, Role="worker")
    ask("DELETE", f"/nodes/{node['ID']}?force=true")


def tend(nodes: list[dict[str, Any]]) -> list[str]:
    """By the leader, once per check. The names of those that are not there."""
    ready = {n["Description"]["Hostname"] for n in nodes if n["Status"]["State"] == "ready"}
    lost = []
    for node in nodes:
        name = node["Description"]["Hostname"]
        try:
            state = node["Status"]["State"]
            if state == "ready":
                label(node)
            elif state == "down" and name in ready:
                drop_replaced(node)
            elif state != "unknown":  # to a new leader all are, until they greet it
                lost.append(name)
        except Refused as problem:  # somebody else changed it: with the next check again
            print(f"{name}: {problem}")
    return lost


def unreachable(nodes: list[dict[str, Any]]) -> list[str]:
    """Managers that are there, but not for the others: one lost more, and nothing is decided."""
    return [
        node["Description"]["Hostname"]
        for node in nodes
        if node.get("ManagerStatus", {}).get("Reachability") == "unreachable"
    ]


def led() -> list[dict[str, Any]]:
    """All nodes, if this one leads; else none. Refused where the managers have no quorum."""
    own, nodes = ask("GET", "/info")["Swarm"]["NodeID"], ask("GET", "/nodes")
    leads = [n["ID"] for n in nodes if n.get("ManagerStatus", {}).get("Leader")]
    return nodes if leads == [own] else []


def check(facts: dict[str, Any]) -> None:
    swarm = ask("GET", "/info")["Swarm"]
    if swarm["LocalNodeState"] != "active" or swarm["Error"]:
        raise Refused(f"this node is {swarm['LocalNodeState']} in its swarm: {swarm['Error']}")
    with suppress(Refused):  # who tries it tells it
        has_image()
    if facts["role"] != "manager" or not (nodes := led()):
        return
    lost, silent = tend(nodes), unreachable(nodes)
    if lost:
        raise Refused(f"not Ready: {', '.join(sorted(lost))}")
    if silent:
        raise Refused(f"managers that do not answer the leader: {', '.join(sorted(silent))}")


# --- try ----------------------------------------------------------------------------------------
#
# Everything has the label, so that whoever leads finds what another life left. The volume has no
# name: Docker removes it with its container, on whatever node that is.


def has_image() -> None:
    """Made of the node's own busybox, by each node. dockerd asks a registry for every image of a
    service, and takes its own where that fails: at localhost it fails at once."""
    if not BUSYBOX.exists():
        return
    try:
        ask("GET", f"/images/{IMAGE}:1/json")
    except Refused:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(BUSYBOX, "bin/busybox")
            for applet in APPLETS:
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        ask(
            "POST",
            f"/images/create?fromSrc=-&repo={quote(IMAGE, safe='')}&tag=1",
            packed.getvalue(),
        )


def labelled(kind: str) -> list[dict[str, Any]]:
    return ask("GET", f"/{kind}?filters={quote(json.dumps({'label': [LABEL]}))}") or []


def take_away(seconds: float) -> None:
    """A network goes last: it is refused while a task has it."""
    until, said = time.monotonic() + seconds, ""
    while True:
        try:
            for service in labelled("services"):
                ask("DELETE", f"/services/{service['ID']}")
            for network in labelled("networks"):
                ask("DELETE", f"/networks/{network['Id']}")
            if not labelled("services") + labelled("networks"):
                return
        except Refused as problem:
            said = str(problem)
        if time.monotonic() > until:
            raise Refused(f"not within {seconds:g} s: {said}; see `docker service ls` there")
        time.sleep(4 * PAUSE)


def serve(name: str, network: str, script: str, where: list[str], once: bool) -> str:
    """Its ID. where: constraints. A volume is there where it runs for ever."""
    container: dict[str, Any] = {"Image": f"{IMAGE}:1", "Command": ["/bin/sh", "-c", script]}
    container["StopSignal"] = "SIGKILL"  # of the others nothing reaches a container's first process
    if not once:
        container["Mounts"] = [{"Type": "volume", "Target": "/data"}]
    task = {
        "ContainerSpec": container, "Placement": {"Constraints": where},
        "RestartPolicy": {"Condition": "none" if once else "any", "Delay": 2 * 10**9},
        "Networks": [{"Target": network}],
    }  # fmt: skip
    spec = {"Name": name, "Labels": {LABEL: ""}, "TaskTemplate": task, "EndpointSpec": ENDPOINT}
    return str(
        ask("POST", "/services/create", spec | {"Mode": {"Replicated": {"Replicas": 1}}})["ID"]
    )


def reached(service: str, wanted: tuple[str, ...], until: float) -> dict[str, Any]:
    """A task of it that is in a state that is wanted. Refused with what the last one says."""
    said = "it has no task"
    while time.monotonic() < until:
        tasks = ask("GET", f"/tasks?filters={quote(json.dumps({'service': [service]}))}") or []
        for task in sorted(tasks, key=lambda one: str(one.get("CreatedAt"))):
            status = task["Status"]
            if status["State"] in wanted:
                return dict(task)
            said = f"{status['State']}: {status.get('Err') or status.get('Message') or ''}"
        time.sleep(4 * PAUSE)
    raise Refused(f"in time no task was {wanted[0]}; the last is {said}"[:SAID])


def exit_code(task: dict[str, Any]) -> int:
    return int((task["Status"].get("ContainerStatus") or {}).get("ExitCode") or 0)


def web_and_asker(number: str, names: dict[str, str], tell: Callable[..., None]) -> None:
    """Tells each thing once it is known; Refused for the next one. names: node ID -> host name, of
    nodes that take tasks."""
    until, name = time.monotonic() + TRY_FOR, f"seed-check-{number}"
    network = {"Name": name, "Driver": "overlay", "Labels": {LABEL: ""}}
    net = ask("POST", "/networks/create", network)["Id"]
    web = f"{name}-web"
    task = reached(serve(web, net, WEB.format(number=number), [], False), ("running",), until)
    place = task["NodeID"]
    tell("pods", "ok", f"a task runs on {names.get(place, place)}")
    other = [f"node.id!={place}"] if set(names) - {place} else []
    asks = ASK.format(web=web, number=number)
    over = ("complete", "failed", "rejected")
    task = reached(serve(f"{name}-ask", net, asks, other, True), over, until)
    if task["Status"]["State"] == "rejected":
        raise Refused(f"{names.get(task['NodeID'], '')}: {task['Status'].get('Err')}")
    code = exit_code(task)
    if code not in (0, *FAILS.values()):
        raise Refused(f"a container that asks ended with {code}")
    asker = names.get(task["NodeID"], "")
    where = asker if other else f"{asker}, the only node that takes tasks"
    steps = {
        "dns": f"{web} was looked up on {where}",
        "service": f"it answered over the overlay network on {where}",
        "volume": "what it wrote to a volume was read back",
    }
    for item, sentence in steps.items():
        if code == FAILS[item]:
            tell(item, "failed", f"not so on {where}: {sentence}")
            return
        tell(item, "ok", sentence)


def attempt(_facts: dict[str, Any], number: str) -> None:
    """{item: [state, sentence]} in one line, as provisioning.cluster_access.Item; one that nothing
    was found out about is left out, and follows from the failed one before it."""
    try:
        nodes = led()
    except Refused:  # no word on those that do: one of them leads
        nodes = []
    if not nodes:
        return
    found: dict[str, list[str]] = {}

    def tell(item: str, state: str, sentence: str) -> None:
        found[item] = [state, sentence[:SAID]]

    names = {
        n["ID"]: n["Description"]["Hostname"] for n in nodes
        if (n["Status"]["State"], n["Spec"]["Availability"]) == ("ready", "active")
    }  # fmt: skip
    try:
        if not BUSYBOX.exists():
            raise Refused(
                f"{BUSYBOX} is not there to make an image of: build the node's image anew"
            )
        if not names:
            raise Refused("no node takes tasks: all are drained, or not ready")
        has_image()
        take_away(CLEAN_FOR)
        web_and_asker(number, names, tell)
    except Refused as problem:
        tell(next(item for item in ITEMS if item not in found), "failed", str(problem))
    finally:
        try:
            take_away(CLEAN_FOR)
            tell("clean-up", "ok", "what it made is gone")
        except Refused as problem:
            tell("clean-up", "failed", str(problem))
    print(json.dumps(found))


# --- the way out --------------------------------------------------------------------------------


def named(name: str) -> list[dict[str, Any]]:
    return [n for n in ask("GET", "/nodes") if n["Description"]["Hostname"] == name]


def drain(_facts: dict[str, Any], name: str) -> None:
    """Of two nodes with this name both."""
    for node in named(name):
        spec = node["Spec"]
        if (spec["Availability"], spec["Role"]) != ("drain", "worker"):
            update(node, Availability="drain", Role="worker")
        filters = quote(json.dumps({"node": [node["ID"]]}))
        tasks = ask("GET", f"/tasks?filters={filters}") or []
        runs = sum(task["Status"]["State"] == "running" for task in tasks)
        if runs:
            raise Refused(f"{name} runs {runs} task(s) still")


def leave(_facts: dict[str, Any]) -> None:
    """Who is a manager still would take its part of the quorum along."""
    if ask("GET", "/info")["Swarm"].get("ControlAvailable"):
        raise Refused("this node is a manager still")
    forget()


def drop(_facts: dict[str, Any], name: str) -> None:
    for node in named(name):
        if node["Status"]["State"] == "ready":
            raise Refused(f"{name} is in the swarm still")
        drop_replaced(node)


VERBS: dict[str, Any] = {
    "join": join, "tokens": tokens, "check": check, "leave": leave, "drain": drain, "forget": drop,
    "try": attempt,
}  # fmt: skip


def main(verb: str, *words: str) -> None:
    facts = json.loads((HERE / "swarm.json").read_text())
    try:
        VERBS[verb](facts, *words)
    except Refused as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main(*sys.argv[1:])
