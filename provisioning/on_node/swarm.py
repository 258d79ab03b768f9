"""One member of a Docker Swarm, by Docker's own API: begun or joined, and looked after.

    swarm.py join      begin the swarm, or be in the one that there is
    swarm.py tokens    give the join tokens to the other members
    swarm.py check     this node is in it; on the leader: and labels are right, and all are there
    swarm.py leave     this node is in no swarm
    swarm.py drain NAME, forget NAME    on a manager: no work for that node; it is there no more

Reads swarm.json beside it: role, first, address, managers (addresses), pool (CIDR of overlay
networks), subnet_size, availability, version. The `docker` command would not do: `swarm join` takes
the token in its argv, for all on the node to read. Paths have no API version: the daemon's own is
meant (seen with 20.10 and 26.1). Standard library only.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
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


class Refused(Exception):
    """What dockerd said."""


class Docker(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def ask(method: str, path: str, body: Any = None) -> Any:  # noqa: ANN401
    link = Docker("docker", timeout=CALL_TIMEOUT)
    try:
        link.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
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


def check(facts: dict[str, Any]) -> None:
    swarm = ask("GET", "/info")["Swarm"]
    if swarm["LocalNodeState"] != "active" or swarm["Error"]:
        raise Refused(f"this node is {swarm['LocalNodeState']} in its swarm: {swarm['Error']}")
    if facts["role"] != "manager":
        return
    nodes = ask("GET", "/nodes")  # refused where the managers have no quorum
    leads = [n["ID"] for n in nodes if n.get("ManagerStatus", {}).get("Leader")]
    if leads != [swarm["NodeID"]]:
        return
    lost, silent = tend(nodes), unreachable(nodes)
    if lost:
        raise Refused(f"not Ready: {', '.join(sorted(lost))}")
    if silent:
        raise Refused(f"managers that do not answer the leader: {', '.join(sorted(silent))}")


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
}  # fmt: skip


def main(verb: str, *words: str) -> None:
    facts = json.loads((HERE / "swarm.json").read_text())
    try:
        VERBS[verb](facts, *words)
    except Refused as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main(*sys.argv[1:])
