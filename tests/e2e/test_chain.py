"""The main job on servers that really boot: power-off to SSH and back, with kills and an intruder.

One chain, told in order; each test takes it on from where the one before left it. Real lab, Ironic,
dnsmasq, nginx, iPXE, ramdisk, image. The servers are claimed by people of two projects, at a
machine of their own. About half an hour on two cores without KVM; the room (test_room.py) may run
beside it, from when both are deployed.
"""

import json
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from provisioning.installers import NetFacts, NodeFacts, OvercloudFacts, Wire
from provisioning.installers.debian import PLUGIN as DEBIAN
from provisioning.kinds import _ssh
from provisioning.playbooks import CONNECTIONS, Playbooks
from seed.host import netns
from seed.lab.demo import Demo
from tests.fakes.appliance import environments
from tests.fakes.desk import Follower, Person
from tests.fakes.disks import a_raw_disk, sha256
from tests.fakes.estate import (
    BEES,
    BEES_LAYOUT,
    BONDED,
    KEPT,
    RACKS,
    ROOT_DISKS,
    SCRATCH,
    SERVER,
    STORAGE,
    SWARM,
    Estate,
    baremetal,
    demo,
    estate,
    events,
    failed_logins,
    intrude,
    kill_reconciler,
    node,
    read,
    run_seed,
    ssh,
    states,
    steal,
    url_of_a_part,
    words_of_bmcs,
)
from tests.fakes.filled import fill, has_gpt, is_as_it_was
from tests.fakes.machine import fresh, traces, until
from tests.fakes.turn import Turn

NAMESPACE = "seed-e2e"
HOME = Path("/var/tmp/seed-e2e")  # noqa: S108  the services' own users must be able to enter it
WISH: dict[str, Any] = {
    "name": "quinces", "image": "debian", "count": 2, "cpus": 1, "memory_gib": 2, "disk_gib": 10,
    "root_device": {"size": ">= 10"}, "pack": "rack", "hostnames": "quince-{n:02}",
    "layout": "bonded", "disks": [{"role": "scratch", "size": "<= 6"}],
    "kernel_args": ["quince.row=7"],
}  # fmt: skip
WORDS = (
    "--image", "debian", "--count", "2", "--cpus", "1", "--memory", "2", "--disk", "10",
    "--root-device", "size=>= 10", "--pack", "rack", "--hostnames", "quince-{n:02}", "--for", "2h",
    "--layout", "bonded", "--data-disk", "scratch,size=<= 6", "--kernel-arg", "quince.row=7",
)  # fmt: skip
"""The same, typed."""
BOTH = {"server1", "server2"}
LIVE_SECONDS = 10  # between an event and its arrival, on two cores with four emulated servers
pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def before(turn: Turn) -> Iterator[dict[str, str]]:
    try:
        fresh(HOME, NAMESPACE)
        yield traces(NAMESPACE)
    finally:
        turn.give()  # also where the lab did not come up


@pytest.fixture(scope="module")
def chain(before: dict[str, str]) -> Iterator[Demo]:
    lab = demo(HOME, NAMESPACE)
    try:
        yield lab
    finally:
        lab.end()


@pytest.fixture(scope="module")
def people(chain: Demo) -> Iterator[Estate]:
    with estate(chain) as found:
        yield found


@pytest.fixture(scope="module")
def kubernetes_node(chain: Demo) -> Iterator["Future[str]"]:
    """Built from where it is first asked for, beside tests that wait for a lease and for disks."""
    words = ("image", "build", "kubernetes-node", "--cache", str(chain.cache), "-o", "json")
    with ThreadPoolExecutor(1) as aside:
        yield aside.submit(chain.seed, *words)


def test_lab_images_and_appliance_come_up(chain: Demo) -> None:
    chain.start("ramdisk", "debian")
    for serial in (ROOT_DISKS["server1"], SCRATCH["server1"], KEPT):
        fill(chain, serial)
    states = {s["name"]: s["state"] for s in chain.ask("status")}
    assert set(states.values()) == {"RUNNING"}, states
    memory = sum(s["memory_mb"] for s in chain.ask("status"))
    print(f"\nthe appliance uses {memory:.0f} MB PSS")


def test_a_wrong_password_is_tried_once(chain: Demo, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password\n")
    for _ in range(2):
        done = run_seed(chain, "discover", "172.22.1.11-172.22.1.12", "--username", "admin",
                        "--password-stdin", stdin=wrong.read_text())  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert "refused" in done.stderr
    # The IPMI BMC counts a client that went silent after 3 s: it left without a word.
    until(lambda: failed_logins(chain) == {"server1": 1, "server2": 1}, 20, "one refusal each")


def test_discovered_accepted_inspected_and_cleaned(chain: Demo) -> None:
    chain.find()
    chain.take_in()
    chain.seed("node", "keep-disk", "server1", KEPT, "--why", "its data is needed")
    assert is_as_it_was(chain, KEPT), "inspected"
    chain.offer()
    written = {
        serial: has_gpt(chain, serial) for serial in (ROOT_DISKS["server1"], SCRATCH["server1"])
    }
    assert set(written.values()) == {False}, "cleaned, the others"
    assert is_as_it_was(chain, KEPT), "neither erased nor its array started"
    nodes = {n["name"]: n for n in chain.ask("node", "list")}
    assert {n["provision_state"] for n in nodes.values()} == {"available"}
    assert (nodes["server1"]["protocol"], nodes["server1"]["firmware"]) == ("redfish", "uefi")
    assert (nodes["server2"]["protocol"], nodes["server2"]["firmware"]) == ("ipmi", "bios")


def test_ironics_own_commands_read_through_the_gateway(chain: Demo) -> None:
    made = chain.ask("token", "create", "e2e", "--role", "viewer", "--directory", str(HOME))
    for command in (["baremetal"], ["openstack", "baremetal"]):
        listed = baremetal(NAMESPACE, made["clouds"], "node", "list", "-f", "json", command=command)
        assert {n["name"] for n in json.loads(listed.stdout)} == BOTH
        refused = baremetal(NAMESPACE, made["clouds"], "node", "delete", "server1", command=command)
        assert refused.returncode != 0


def test_people_of_two_projects_log_in_over_tls(chain: Demo, people: Estate) -> None:
    for who, project in ((people.gardener, "orchard"), (people.skipper, "harbour")):
        chain.seed("project", "create", project)
        made = chain.ask("user", "create", who.name, "--role", "claimer", "--project", project,
                         "--directory", str(who.home))  # fmt: skip
        password = Path(made["password_file"]).read_text()
        session = who.ask("login", "--user", who.name, "--password-stdin", stdin=password)
        assert Path(session["file"]).stat().st_mode & 0o777 == 0o600
        assert who.get("/v1/claims") == []
        assert who.call("GET", "/metrics").status_code == 403
    hook = ("hook", people.receiver.url, "--kind", "claim.", "--directory", str(HOME))
    people.gardener.seed("webhook", "create", *hook)


def test_break_glass_opens_raw_ironic_for_one_person_and_is_recorded(
    chain: Demo, people: Estate
) -> None:
    made = chain.ask("token", "create", "oncall", "--role", "destroyer", "--directory", str(HOME))
    oncall = people.desk.person("oncall", Path(made["token"]))

    def add_trait() -> subprocess.CompletedProcess[str]:
        words = ("node", "add", "trait", "server1", "CUSTOM_QUINCES")
        return baremetal(oncall.namespace, made["clouds"], *words)

    assert add_trait().returncode != 0
    begin = events(chain)[-1]["id"]
    oncall.seed("break-glass", "open", "--why", "server1 needs a trait, ticket 4711")
    done = add_trait()
    assert done.returncode == 0, done.stderr
    assert [row["who"] for row in chain.ask("break-glass", "show")] == ["oncall"]
    oncall.seed("break-glass", "close")
    closed = add_trait()
    assert closed.returncode != 0
    assert "not sent" in closed.stderr, closed.stderr
    told = events(chain, "break-glass.", begin)
    kinds = [event["kind"].removeprefix("break-glass.") for event in told]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("opened", "closed", {"called"})
    assert {event["who"] for event in told} == {"oncall"}
    assert told[0]["why"] == "server1 needs a trait, ticket 4711"
    calls = [e["message"] for e in told[1:-1] if not e["message"].startswith("GET ")]
    assert calls == ["PUT /v1/nodes/server1/traits/CUSTOM_QUINCES"], told


def test_an_image_comes_in_through_the_web_door_and_an_altered_one_does_not(
    chain: Demo, people: Estate
) -> None:
    """In pieces through nginx, checked by seed-images, each as the user that it is."""
    made = chain.ask("token", "create", "imager", "--role", "operator", "--directory", str(HOME))
    imager = people.desk.person("imager", Path(made["token"]))
    disk, file = a_raw_disk(40 * 2**20, b"quince"), HOME / "tiny.img"
    file.write_bytes(disk)
    done = imager.ask("image", "add", "tiny", str(file), "--sha256", sha256(disk))
    assert (done["state"], done["bytes_done"]) == ("done", len(disk))
    refused = imager.seed("image", "add", "other", str(file), "--sha256", "0" * 64, code=1)
    assert "is not the file asked for" in " ".join(refused.split())
    listed = {image["name"]: image["files"] for image in chain.ask("image", "list")}
    assert listed["tiny"]["disk"]["sha256"] == sha256(disk)
    assert "other" not in listed


def test_a_plan_that_cannot_be_is_refused_before_any_server_is_touched(chain: Demo) -> None:
    def put(text: str) -> str:
        (HOME / "wrong.yaml").write_text(text)
        return run_seed(chain, "network", "put", str(HOME / "wrong.yaml")).stderr

    begin = events(chain)[-1]["id"]
    pools = STORAGE.replace("10.30.0.19]", "10.30.0.19, 10.30.0.15-10.30.0.30]")
    assert "overlap" in put(pools)
    assert "10.30.0.12" in put(STORAGE + "vips: {filer: 10.30.0.12}\n")
    ours = put(STORAGE.replace("10.30.0", "172.22.0"))
    assert "overlaps" in ours
    assert "provisioning" in ours
    assert chain.ask("network", "list") == []
    assert not events(chain, "network.", begin)


def test_a_claim_is_explained_and_refused_by_rules_before_anything_happens(
    chain: Demo, people: Estate
) -> None:
    gardener = people.gardener
    (HOME / "racks.csv").write_text(RACKS)
    chain.seed("rack", "plan", "import", str(HOME / "racks.csv"))
    (HOME / "storage.yaml").write_text(STORAGE)
    (HOME / "bonded.yaml").write_text(BONDED)
    chain.seed("network", "put", str(HOME / "storage.yaml"))
    chain.seed("layout", "put", str(HOME / "bonded.yaml"))
    chain.make_key()
    begin = events(chain)[-1]["id"]

    def refusal(**other: Any) -> dict[str, Any]:
        key = Path(f"{chain.key}.pub").read_text().strip()
        answer = gardener.call("POST", "/v1/claims", json={**WISH, "ssh_keys": [key], **other})
        assert answer.status_code == 409, answer.text
        return dict(answer.json())

    assert set(gardener.ask("claim", "explain", *WORDS)["chosen"]) == BOTH
    told = gardener.seed("claim", "explain", *WORDS, "--label", "gpu=yes", code=1)
    assert told.count("it has no label gpu") == 2, told
    assert refusal(memory_gib=64)["reasons"] == dict.fromkeys(BOTH, "it has 3 GiB of memory of 64")
    lacks = refusal(root_device={"serial": "NO-SUCH"})
    assert set(lacks["reasons"]) == BOTH
    assert all(
        "no disk of it fits a root disk (serial NO-SUCH" in why for why in lacks["reasons"].values()
    )
    assert "on different switches" in refusal(pack="", spread="switch")["detail"]
    (HOME / "fast.yaml").write_text(BONDED.replace("bonded", "fast").replace("2", "3"))
    chain.seed("layout", "put", str(HOME / "fast.yaml"))
    lacks = refusal(layout="fast")
    assert set(lacks["reasons"]) == BOTH
    assert all("NIC role up: 2 of 3 NICs" in why for why in lacks["reasons"].values()), lacks
    chain.seed("quota", "set", "orchard", "baremetal", "--nodes", "1")
    assert refusal()["code"] == "quota-exceeded"
    chain.seed("quota", "set", "orchard", "baremetal", "--nodes", "2")
    assert gardener.get("/v1/claims") == []
    assert states(chain) == ["available", "available"]
    assert not [e for e in events(chain, "", begin) if e["kind"].startswith(("claim.", "order."))]


def test_claimed_deployed_and_proved_though_the_reconciler_dies(
    chain: Demo, people: Estate, turn: Turn
) -> None:
    gardener, skipper = people.gardener, people.skipper
    key = f"{chain.key}.pub"
    follower = Follower(gardener, cut=3, last="claim.active")
    follower.begin()
    secret = HOME / "quince.key"
    secret.write_text("a-key-that-reaches-a-node-once\n")
    files = ("--secret-file", f"/etc/quince.key,0640,root:debian={secret}")
    looked = gardener.ask("claim", "preview", *files, *WORDS)
    assert [n["faults"] for n in looked["nodes"]] == [[], []]
    asked = gardener.ask("claim", "create", "quinces", "--ssh-key", key, *files, *WORDS)
    assert asked["project"] == "orchard"
    refused = skipper.call("POST", "/v1/claims:explain", json={"name": "boat", "image": "debian"})
    assert (refused.json()["fits"], refused.json()["nodes"]) == (False, {})
    assert refused.json()["free_at"]
    queued = skipper.ask("claim", "create", "boat", "--image", "debian", "--ssh-key", key,
                         "--node", "server2", "--queue", *files)  # fmt: skip
    assert queued["state"] == "queued"
    assert queued["expected_at"]
    until(lambda: "wait call-back" in states(chain), 300, "Ironic waits for a ramdisk")
    kill_reconciler(chain)
    assert skipper.call("GET", "/v1/nodes").status_code == 403
    for who, names in ((gardener, ("quinces", *BOTH, "hook", "orchard")), (skipper, ("boat",))):
        walked = who.walk(who.name, *names)
        assert max(walked.values()) < 500, walked
    with chain.phase("deploy and proof"):
        chain.follow_claim("quinces", "active")
    turn.give()
    follower.end(60)
    print(chain.ssh_lines("quinces"))
    came_once_and_live(gardener, follower)


def came_once_and_live(person: Person, follower: Follower) -> None:
    """All of the events, by their numbers; each soon, but those that were missed on purpose."""
    ids = [event["id"] for _, event in follower.got]
    there = person.get("/v1/events", after=ids[0] - 1, limit=1000)
    assert ids == [event["id"] for event in there if event["id"] <= ids[-1]]
    assert follower.missed >= 1
    again = range(follower.cut, follower.cut + follower.missed)
    late = [
        (event["kind"], came)
        for n, (came, event) in enumerate(follower.got)
        if n not in again
        and came - datetime.fromisoformat(event["at"]) > timedelta(seconds=LIVE_SECONDS)
    ]
    assert late == []


def test_a_protected_claim_is_not_released_and_may_be_renewed(chain: Demo, people: Estate) -> None:
    gardener = people.gardener
    gardener.seed("claim", "protect", "quinces", "--why", "the harvest")
    refused = gardener.seed("claim", "release", "quinces", "--now", "--yes", code=1)
    assert "protected" in refused
    end = gardener.ask("claim", "renew", "quinces", "--for", "60s")["lease_end"]
    assert datetime.fromisoformat(end) < datetime.now(UTC) + timedelta(seconds=60)
    assert claim(chain)["state"] == "active"


def test_the_printed_ssh_lines_log_in_and_the_hint_chose_the_disk(
    chain: Demo, people: Estate
) -> None:
    handed = {
        n["name"]: n for n in people.gardener.ask("claim", "show", "quinces")["handout"]["nodes"]
    }
    assert set(handed) == {"quince-00", "quince-01"}
    lines = chain.ssh_lines("quinces")
    assert len(lines) == 2
    names = set()
    for line in lines:
        assert line.startswith(f"ip netns exec {NAMESPACE} ssh ")
        assert "StrictHostKeyChecking" not in line
        script = (
            "hostname; cloud-init status; df --output=size -BG / | tail -1; cat /proc/cmdline; "
            "lsblk -Jo NAME,TYPE,SERIAL,MOUNTPOINT,LABEL"
        )
        done = subprocess.run(
            [*shlex.split(line), "-o", "BatchMode=yes", script], capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        *told, arguments, blocks = done.stdout.split("\n", 4)
        names.add(told[0])
        assert told[1] == "status: done"
        assert int(told[2].strip().rstrip("G")) >= 10, "the root did not grow to the whole disk"
        disks = [d for d in json.loads(blocks)["blockdevices"] if d["type"] == "disk"]
        mounts = {d["serial"]: [p["mountpoint"] for p in d.get("children", [])] for d in disks}
        right = ROOT_DISKS[handed[told[0]]["node_name"]]
        assert "/" in mounts.pop(right), disks
        labels = [p["label"] for d in disks if d["serial"] == right for p in d["children"]]
        assert labels.count("config-2") == 1, "the agent took the image's own partition"
        assert len(labels) == 4, labels
        scratch = SCRATCH[handed[told[0]]["node_name"]]
        assert mounts.pop(scratch) == [], "the data disk is empty"
        kept = {KEPT: "kept"} if handed[told[0]]["node_name"] == "server1" else {}
        assert set(mounts) == set(kept), disks
        roles = {d["serial"]: d["role"] for d in handed[told[0]]["disks"]}
        assert roles == {right: "root", scratch: "scratch", **kept}
        assert "quince.row=7" in arguments.split()
    assert names == set(handed)
    assert has_gpt(chain, ROOT_DISKS["server1"])
    assert is_as_it_was(chain, KEPT), "deployed beside it, and booted"


def test_the_bond_its_vlan_and_their_addresses_came_up_as_asked(
    chain: Demo, people: Estate
) -> None:
    handed = handed_out(people.gardener)
    storage = {
        name: next(a["address"] for a in told["addresses"] if a["network"] == "storage")
        for name, told in handed.items()
    }
    assert sorted(storage.values()) == ["10.30.0.10", "10.30.0.11"]
    script = (
        "hostname; ip -j -d address; for a in 10.30.0.10 10.30.0.11; do "
        "sudo ping -c 3 -W 5 -s 1400 -M do $a >/dev/null || echo no answer from $a; done; "
        "sudo cat /etc/quince.key; stat -c '%a %U:%G' /etc/quince.key; "
        "sudo ls -A /etc/seed-first-boot /etc/systemd/system/seed-phone-home.service 2>&1"
    )
    for line in chain.ssh_lines("quinces"):
        done = subprocess.run(
            [*shlex.split(line), "-o", "BatchMode=yes", script], capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        name, told, secret, mode, *left = done.stdout.splitlines()
        links = {link["ifname"]: link for link in json.loads(told)}
        assert (secret, mode) == ("a-key-that-reaches-a-node-once", "640 root:debian")
        assert len(left) == 2, f"what knew the secret's address is left: {left}"
        assert all("No such file" in line for line in left), left
        bond = links["bond0"]["linkinfo"]["info_data"]
        assert (bond["mode"], bond["primary"]) == ("active-backup", "up0")
        assert {links[n].get("master") for n in ("up0", "up1")} == {"bond0"}
        vlan = links["bond0.30"]
        assert (vlan["linkinfo"]["info_data"]["id"], vlan["mtu"]) == (30, 1450)
        assert [a["local"] for a in vlan["addr_info"] if a["family"] == "inet"] == [storage[name]]
        assert handed[name]["address"] in {a["local"] for a in links["bond0"]["addr_info"]}


def test_ssh_config_and_known_hosts_are_all_that_ssh_needs(chain: Demo, people: Estate) -> None:
    gardener, config, known = people.gardener, HOME / "quinces.conf", HOME / "gardener" / "known"
    config.write_text(gardener.seed("claim", "ssh-config", "quinces"))
    for _ in range(2):
        gardener.seed("claim", "known-hosts", "quinces", "--write", "--file", str(known))
    lines = known.read_text().splitlines()
    assert len(lines) == len(set(lines))
    files = ("-o", f"UserKnownHostsFile={known}")
    by_name = ssh(chain, "-F", str(config), *files, "quince-00", "hostname")
    assert by_name.stdout == "quince-00\n", by_name.stderr
    other = handed_out(gardener)["quince-01"]
    login = f"{other['ssh_user']}@{other['address']}"
    strict = ("-F", "none", "-o", "StrictHostKeyChecking=yes", *files)
    by_address = ssh(chain, *strict, login, "hostname")
    assert by_address.stdout == "quince-01\n", by_address.stderr
    known.write_text("".join(f"{line}\n" for line in lines if other["address"] not in line))
    assert "verification failed" in ssh(chain, *strict, login, "hostname").stderr


def test_inventory_targets_and_metrics_tell_what_is_handed_out(chain: Demo, people: Estate) -> None:
    gardener, eye = people.gardener, people.desk.person("eye", HOME / "e2e.token")
    addresses = {
        n["name"]: n["address"] for n in gardener.get("/v1/claims/quinces")["handout"]["nodes"]
    }
    listed = json.loads(gardener.seed("inventory", "--list"))
    for group in ("baremetal", "claim_quinces", "project_orchard", "rack_r1", "class_baremetal"):
        assert set(listed[group]["hosts"]) == set(addresses), group
    hosts = listed["_meta"]["hostvars"]
    assert {name: told["ansible_host"] for name, told in hosts.items()} == addresses
    assert json.loads(gardener.seed("inventory", "--host", "quince-00")) == hosts["quince-00"]
    targets = gardener.get("/v1/prometheus-targets", port=9100)
    assert {t["labels"]["instance"]: t["targets"] for t in targets} == {
        name: [f"{address}:9100"] for name, address in addresses.items()
    }
    assert {t["labels"]["__meta_seed_rack"] for t in targets} == {"r1"}
    for path in ("/v1/inventory", "/v1/prometheus-targets"):
        assert "quince" not in people.skipper.call("GET", path).text
    told = eye.call("GET", "/metrics").raise_for_status().text
    samples = [s for family in text_string_to_metric_families(told) for s in family.samples]

    def value(name: str, **labels: str) -> float:
        return sum(
            s.value for s in samples if s.name == name and labels.items() <= s.labels.items()
        )

    assert value("seed_claims", state="active", project="orchard") == 1
    assert value("seed_queue_length") == 1
    assert value("seed_nodes", provision_state="active", held="true") == 2
    assert value("seed_leases_ending_within_day", project="orchard") == 1


@pytest.mark.usefixtures("kubernetes_node")
def test_a_protected_claim_outlives_its_lease_and_one_that_is_not_is_given_back(
    chain: Demo, people: Estate
) -> None:
    grace = timedelta(seconds=claim(chain)["grace_seconds"])
    over = datetime.fromisoformat(claim(chain)["lease_end"]) + grace
    until(lambda: events(chain, "claim.lease-ended"), 120, "the end of the lease")
    until(lambda: datetime.now(UTC) > over, 60, "the end of the grace")
    assert claim(chain)["state"] == "active"
    people.gardener.seed("claim", "unprotect", "quinces")
    until(lambda: claim(chain)["state"] == "releasing", 60, "given back by itself")
    (told,) = events(chain, "claim.lease-over")
    assert (told["who"], told["project"]) == ("seed", "orchard")


def test_released_though_the_reconciler_dies_and_an_intruder_races_the_lookup(
    chain: Demo, people: Estate
) -> None:
    mac = chain.ask("node", "show", "server1")["macs"][0]
    until(lambda: node(chain, "server1")["waiting_since"], 120, "an order for server1")
    answer = intrude(NAMESPACE, mac)
    assert "agent_token" not in answer
    kill_reconciler(chain)
    until(lambda: "a lookup" in claim(chain)["problem"], 300, "the order is stopped and says why")
    until(lambda: "clean failed" in states(chain), 60, "Ironic stopped")
    assert events(chain, "order.alarm")
    assert claim(chain)["state"] == "cleaning", "a dirty node must not be offered"
    assert people.gardener.get("/v1/claims/quinces")["problem"]
    chain.seed("node", "retry", "server1")
    with chain.phase("release"):
        until(lambda: claim(chain)["state"] == "released", 1200, "both are clean")
    assert not has_gpt(chain, ROOT_DISKS["server1"])
    assert is_as_it_was(chain, KEPT), "through all of it"


def test_the_first_of_the_queue_gets_a_node_that_became_free(chain: Demo, people: Estate) -> None:
    skipper = people.skipper
    until(lambda: victim(chain), 120, "boat has a node")
    until(lambda: url_of_a_part(chain, "server2"), 120, "Ironic has its config drive")
    assert steal(NAMESPACE, url_of_a_part(chain, "server2")) == 404
    until(lambda: "was asked for from 172.22.0.6" in boat_at_home(chain)["problem"], 300, "stopped")
    assert events(chain, "order.alarm")[-1]["message"].startswith("its part /etc/quince.key")
    assert boat(people)["state"] != "active"
    plan = skipper.call("POST", "/v1/claims/boat:plan-release").json()
    body = {"plan": plan["hash"], "now": True}
    skipper.call("POST", "/v1/claims/boat:release", json=body).raise_for_status()
    assert len(plan["nodes"]) == 1


def test_a_clean_server_becomes_a_swarm_by_one_call(
    chain: Demo, kubernetes_node: "Future[str]"
) -> None:
    """Its first manager, with the address of the swarm; tests/slow/test_swarm.py has the rest. The
    other server is cleaned meanwhile."""
    with chain.phase("image kubernetes-node"):
        kubernetes_node.result()
    for verb, text in (("network", BEES), ("layout", BEES_LAYOUT), ("cluster", SWARM)):
        (HOME / f"{verb}.yaml").write_text(text)
    chain.seed("network", "put", str(HOME / "network.yaml"))
    chain.seed("layout", "put", str(HOME / "layout.yaml"))
    chain.make_key()
    with chain.phase("swarm"):
        chain.seed(
            "cluster", "create", str(HOME / "cluster.yaml"), "--ssh-key", f"{chain.key}.pub",
            "--wait",
        )  # fmt: skip
    hive = chain.look_at("/clusters/hive")
    (member,) = hive["members"]
    assert (member["name"], member["node"]) == ("hive-control-0", "server1"), "the other is small"
    (line,) = chain.ssh_lines("hive-control-0")
    asked = (
        "sudo docker node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}'; ip -o address"
    )
    argv = [*shlex.split(line), "-o", "BatchMode=yes", asked]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    assert told.startswith("hive-control-0 Ready Leader\n")
    assert f" {hive['vip']}/32 " in told, "haproxy serves there: it was a step to reach it"
    chain.seed("cluster", "check", "hive")
    assert is_as_it_was(chain, KEPT), "by a cluster's claim, too"


def test_an_overclouds_first_stage_names_what_its_node_lacks(chain: Demo) -> None:
    """The playbook of Seed's own installer, by SSH as root, on a server whose image is another."""
    (one,) = chain.look_at("/claims/hive-control-0")["handout"]["nodes"]
    (api,) = (a for a in one["addresses"] if a["network"] == "bees")
    wire = Wire(interface_of(chain, api["address"]), f"{api['address']}/{api['prefix']}")
    facts = OvercloudFacts(
        "e2e", "cloud", "", {"internal": "10.31.0.250", "external": "10.31.0.250"},
        {"api": NetFacts("bees")},
        (
            NodeFacts(
                one["name"], ("control", "network", "compute"), one["node_uuid"],
                reached=one["address"], host_keys=tuple(one["host_keys"]), wires={"api": wire},
            ),
        ),
        options={"driver": "fake", "tls": False},
    )  # fmt: skip
    own = _ssh.new_key("cloud")
    on_node(chain, f"umask 077; mkdir -p /root/.ssh; echo '{own['ssh.pub'].strip()}' > {_ssh.KEYS}")
    runner = environments() / "ansible" / "bin" / "ansible-runner"
    folder = HOME / "books"  # short: SSH's sockets are in it, and have 107 characters
    folder.mkdir(mode=0o700, exist_ok=True)
    books = Playbooks(runner, DEBIAN.project(runner), folder)
    first = DEBIAN.stages(facts)[0]
    inputs = DEBIAN.tree(facts, own | DEBIAN.secrets(facts))
    with chain.phase("first stage"):
        assert netns.call(
            NAMESPACE, lambda: books.begin("cloud", first.name, inputs, first.playbook)
        )
        until(lambda: books.look("cloud", first.name).state != "running", 600, "it is over")
    run = books.look("cloud", first.name)
    said = run.log.read_text()
    assert (run.state, run.hosts) == ("failed", ("hive-control-0",)), said
    assert run.task == "what every host must have", said
    assert "there is no unit mariadb: is the image openstack-node?" in said
    assert on_node(chain, "cat /etc/overcloud/hosts"), "its files came there"
    secrets = json.loads((folder / "cloud/env/extravars").read_text())["oc_secrets"]
    assert not [one for one in secrets.values() if one in said]
    kept = folder / "cloud" / CONNECTIONS
    until(lambda: not [*kept.glob("*")], 30, "its connections end with it")
    books.forget("cloud")


def on_node(chain: Demo, command: str) -> str:
    (line,) = chain.ssh_lines("hive-control-0")
    argv = [*shlex.split(line), "-o", "BatchMode=yes", f"sudo sh -c {shlex.quote(command)}"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout


def interface_of(chain: Demo, address: str) -> str:
    """The interface that has it."""
    told = json.loads(on_node(chain, "ip -j address"))
    return next(
        str(link["ifname"]) for link in told if address in {a["local"] for a in link["addr_info"]}
    )


def test_a_claim_that_was_stopped_is_given_back_clean(chain: Demo, people: Estate) -> None:
    skipper = people.skipper
    until(lambda: boat(people)["state"] == "released", 900, "its server is clean")
    kinds = [e["kind"] for e in skipper.get("/v1/events", kind="claim.", limit=1000)]
    assert kinds[:2] == ["claim.requested", "claim.held"], kinds
    (free,) = (n for n in chain.ask("node", "list") if not n["claim"])
    assert (free["name"], free["provision_state"]) == ("server2", "available")
    told = lambda: node(chain, "server2")["detail"]  # noqa: E731
    until(lambda: told() == "available", 20, "the list does not speak of the old claim")


def test_a_webhook_was_told_all_of_its_projects_claims_signed(people: Estate) -> None:
    gardener, secret = people.gardener, (HOME / "hook.webhook").read_text().strip()
    wanted = {
        str(e["id"]): e["kind"] for e in gardener.get("/v1/events", kind="claim.", limit=1000)
    }
    assert {"claim.requested", "claim.active", "claim.lease-over", "claim.released"} <= set(
        wanted.values()
    )

    def posted() -> dict[str, str]:
        told = [json.loads(got.body) for got in people.receiver.got]
        assert {(t["source"], t["data"]["project"]) for t in told} <= {(SERVER, "orchard")}
        return {t["id"]: t["type"].removeprefix("seed.") for t in told}

    until(lambda: posted() == wanted, 60, "each event posted")
    assert all(got.is_signed_with(secret) for got in people.receiver.got)
    gardener.said += [got.body.decode() for got in people.receiver.got]


def test_nobody_read_of_a_bmc_nor_of_another_project(chain: Demo, people: Estate) -> None:
    bmcs = words_of_bmcs(chain)
    assert read(people.gardener, bmcs | {w: w for w in ("harbour", "skipper", "boat")}) == []
    assert read(people.skipper, bmcs | {w: w for w in ("orchard", "gardener", "quince")}) == []
    assert chain.ask("event", "verify")["ok"]


def test_no_bmc_saw_a_second_wrong_login(chain: Demo) -> None:
    assert failed_logins(chain) == {"server1": 1, "server2": 1}


def test_no_console_shows_what_an_agent_obeys(chain: Demo) -> None:
    for server in sorted(BOTH):
        console = (chain.lab_dir / "console" / f"{server}.log").read_text(errors="replace")
        assert "ironic_python_agent" in console, "it does not speak there: this test sees nothing"
        assert "agent_token=" not in console


def test_nothing_is_left_behind(chain: Demo, people: Estate, before: dict[str, str]) -> None:
    people.leave()
    chain.end()
    after = traces(NAMESPACE)
    for what, seen in before.items():
        assert after[what] == seen, what


# --- helpers ------------------------------------------------------------------------------------


def claim(chain: Demo) -> dict[str, Any]:
    return dict(chain.look_at("/claims/quinces"))


def handed_out(person: Person) -> dict[str, dict[str, Any]]:
    """Host name -> what its holder is given."""
    return {n["name"]: n for n in person.ask("claim", "show", "quinces")["handout"]["nodes"]}


def victim(chain: Demo) -> str:
    """The node of the claim boat, once its order is open; else nothing."""
    mine = [n for n in chain.look_at("/nodes") if n["claim"] == "boat" and n["waiting_since"]]
    return str(mine[0]["name"]) if mine else ""


def boat_at_home(chain: Demo) -> dict[str, Any]:
    (found,) = [c for c in chain.look_at("/claims") if c["name"] == "boat"]
    return dict(found)


def boat(people: Estate) -> dict[str, Any]:
    return dict(people.skipper.get("/v1/claims/boat"))
