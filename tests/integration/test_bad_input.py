"""What people get wrong, typed as they type it: one sentence, one remedy, nothing half-done.

A real lab whose servers stay off, and a real appliance, in one namespace of the test's own. All is
done by the command line; the same wrong login never reaches a BMC twice.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml
from sqlmodel import col, select

from provisioning.authority import fingerprint
from provisioning.ironic import Ironic, Node
from provisioning.models import Bmc, Claim, Discovery, Hold, Order, Plan, now
from provisioning.room import Observation, Slot
from provisioning.store import Store
from seed import reconciler
from seed.host import netns
from seed.host.paths import Paths
from seed.lab.bmc import _self_signed as self_signed
from seed.lab.bmc import service
from seed.lab.lab import Lab, stored
from seed.settings import Settings
from tests.fakes.appliance import base_folder, environments, until
from tests.fakes.wire import ip

TOP = Path(__file__).resolve().parents[2]
NAMESPACE = f"seed-tn-{os.getpid()}"
REDFISH, IPMI, REDFISH_LIAR, IPMI_LIAR, NOBODY = (
    f"172.22.1.{n}" for n in (11, 12, 21, 22, 23)
)  # fmt: skip
BOTH = f"{REDFISH}-{IPMI}"
WRONG, RIGHT, OTHER = "wrong-password", "the-right-one", "also-wrong"
REFUSED, USAGE, UNAVAILABLE = 1, 2, 3


@dataclass
class Said:
    """What one verb answered."""

    code: int
    out: str
    err: str

    def refused(self, sentence: str, remedy: str = "", code: int = REFUSED) -> None:
        """One sentence, one remedy, the exit code, and no traceback."""
        everything = self.out + self.err
        assert "Traceback" not in everything, everything
        assert self.code == code, everything
        lines = self.err.strip().splitlines()
        assert [line for line in lines if sentence in line], self.err
        tries = [line for line in lines if line.startswith("  try: ") and len(line) > 8]
        assert len(tries) == 1, self.err
        assert remedy in tries[0]


@dataclass
class Site:
    """A lab and an appliance below one folder."""

    base: Path
    seen: dict[str, Any] = field(default_factory=dict)

    def seed(self, *words: str, stdin: str | None = None, **env: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "seed", *words],
            env={**os.environ, "SEED_CONFIG": str(self.base / "seed.toml"), "COLUMNS": "200"} | env,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            cwd=TOP,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def done(self, *words: str, stdin: str | None = None) -> str:
        said = self.seed(*words, stdin=stdin)
        assert said.code == 0, said.out + said.err
        return said.out

    def ask(self, *words: str) -> Any:
        return json.loads(self.done(*words, "-o", "json"))

    def discover(self, where: str, password: str) -> Said:
        words = ("discover", where, "--username", "admin", "--password-stdin")
        return self.seed(*words, stdin=password + "\n")

    @property
    def lab_words(self) -> list[str]:
        return ["--scenario", str(self.base / "lab.yaml"), "--state-dir", str(self.base / "lab")]

    @property
    def lab(self) -> Lab:
        return Lab(stored(self.base / "lab"), self.base / "lab", environments())

    def lab_status(self) -> list[dict[str, Any]]:
        return list(json.loads(self.done("lab", "status", *self.lab_words, "-o", "json")))

    def failed_logins(self) -> dict[str, int]:
        return {row["protocol"]: row["failed_logins"] for row in self.lab_status()}

    @property
    def settings(self) -> Settings:
        os.environ["SEED_CONFIG"] = str(self.base / "seed.toml")
        return Settings()  # type: ignore[call-arg]

    @property
    def store(self) -> Store:
        return Store(self.settings.database_url)

    def api(self, path: str, body: dict[str, Any]) -> httpx.Response:
        transport = httpx.HTTPTransport(uds=str(self.settings.api_socket))
        with httpx.Client(transport=transport, base_url="http://seed", timeout=60) as client:
            return client.post(path, json=body)

    def count(self, kind: type) -> int:
        with self.store.read() as session:
            return len(session.exec(select(kind)).all())

    def file(self, name: str, content: str | bytes) -> str:
        path = self.base / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)


@contextmanager
def a_lab(site: Site) -> Iterator[None]:
    scenario = yaml.safe_load((TOP / "vagrant" / "lab.yaml").read_text())
    scenario["namespace"] = NAMESPACE
    for server in scenario["servers"]:
        server["memory_mib"] = 256
    site.file("lab.yaml", yaml.safe_dump(scenario))
    try:
        site.done("lab", "up", *site.lab_words)
        site.lab.layout.password_file.read_text()
        yield
    finally:
        site.done("lab", "down", *site.lab_words)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    before = os.environ.get("SEED_CONFIG")
    with base_folder() as base:
        site = Site(base)
        with a_lab(site):
            try:
                site.done(*init(site))
                site.done("up")
                yield site
            finally:
                site.done("down")
            assert {row["power"] for row in site.lab_status()} == {"off"}, "nothing ever booted"
        assert not Path(f"/run/netns/{NAMESPACE}").exists()
    os.environ.pop("SEED_CONFIG") if before is None else os.environ.update(SEED_CONFIG=before)


def init(site: Site, **changes: str) -> list[str]:
    words = {
        "management": "mgmt0", "provisioning": "prov0", "out-of-band": "oob0",
        "namespace": NAMESPACE, "state-dir": f"{site.base}/state", "run-dir": f"{site.base}/run",
        "log-dir": f"{site.base}/log",
    } | {name.replace("_", "-"): value for name, value in changes.items()}  # fmt: skip
    return ["init", *(word for k, v in words.items() for word in (f"--{k}", v))]


# --- ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "sentence", "remedy"),
    [
        pytest.param("10.0.0.0/33", "'10.0.0.0/33' is not a range", "10.0.0.0/24", id="CIDR"),
        pytest.param("10.0.0.9-10.0.0.5", "is not a range", "10.0.0.5-10.0.0.9", id="backwards"),
        pytest.param("-rf", "'-rf' is not a range", "Write a network", id="an option"),
        pytest.param("", "'' is not a range", "Write a network", id="empty"),
        pytest.param("172.22.1.5/24", "has host bits set", "172.22.1.0/24", id="host bits"),
        pytest.param("10.0.0.0/15", "more than a /16", "smaller parts", id="a /15"),
        pytest.param("::-ffff::", "more than a /112", "List the BMCs", id="all of IPv6"),
        pytest.param("fe80::1", "is link-local", "a real address", id="link-local"),
        pytest.param("127.0.0.1-127.0.0.9", "no BMC can have", "own range", id="loopback"),
    ],
)
def test_ranges(site: Site, where: str, sentence: str, remedy: str) -> None:
    before = site.count(Discovery)
    site.seed("discover", "--", where).refused(sentence, remedy)
    assert site.count(Discovery) == before


MANY = 100_000
QUICK = 20  # seconds, with the command's own start on a busy machine


def test_a_hundred_thousand_ranges(site: Site) -> None:
    """As a file of addresses pasted into the command line."""
    before, begin = site.count(Discovery), time.monotonic()
    many = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(MANY)]
    site.seed("discover", *many).refused("the body is larger than 1024 KiB", "Part it")
    assert time.monotonic() - begin < QUICK
    assert site.count(Discovery) == before


@pytest.mark.parametrize("what", ["ranges", "exclude"])
def test_more_ranges_or_exclusions_than_a_sweep_takes(site: Site, what: str) -> None:
    before, many = site.count(Discovery), [f"10.0.{n >> 8}.{n & 255}" for n in range(300)]
    answer = site.api("/v1/discoveries", {"ranges": ["10.0.0.0/24"]} | {what: many})
    assert answer.status_code == 422, answer.text
    assert "at most 256 items" in answer.json()["detail"]
    assert answer.json()["remedy"]
    assert site.count(Discovery) == before


def test_the_most_ranges_are_no_work(site: Site) -> None:
    """256 ranges and 256 exclusions, 32 million addresses: nothing else waits for the answer."""
    before, begin = site.count(Discovery), time.monotonic()
    ranges = [f"10.{n}.0.1-10.{n}.255.254" for n in range(256)]
    exclude = [f"10.{n}.128.0/24" for n in range(256)]
    answer = site.api("/v1/discoveries", {"ranges": ranges, "exclude": exclude})
    assert answer.status_code == 422, answer.text
    assert "more than a /16" in answer.json()["detail"]
    assert "smaller parts" in answer.json()["remedy"]
    assert time.monotonic() - begin < 5
    assert site.count(Discovery) == before


@pytest.mark.parametrize(
    ("words", "mebibytes"),
    [
        pytest.param(("import",), 4, id="import"),
        pytest.param(("packing-list", "import"), 16, id="packing list"),
        pytest.param(("rack", "plan", "import"), 16, id="rack plan"),
    ],
)
def test_files_that_are_too_large(site: Site, words: tuple[str, ...], mebibytes: int) -> None:
    before, begin = site.count(Observation) + site.count(Slot), time.monotonic()
    row = b"rack,unit,serial,bmc_mac\n"
    path = site.file("large.csv", row * (mebibytes * 2**20 // len(row) + 1))
    said = site.seed(*words, path)
    said.refused("larger than", "art it", code=said.code)
    assert said.code in (REFUSED, USAGE)
    assert time.monotonic() - begin < QUICK
    assert site.count(Observation) + site.count(Slot) == before


def test_a_login_is_whole(site: Site) -> None:
    one = ("discover", REDFISH)
    site.seed(*one, "--username", "admin").refused("without a password", "stdin", USAGE)
    site.seed(*one, "--password-stdin").refused("without a user", "--username", USAGE)
    words = ("--username", "admin", "--password-stdin")
    site.seed(*one, *words, stdin="").refused("held no password", "< FILE", USAGE)
    site.seed(*one, "--credential", "x").refused("no login is named 'x'", "seed discover")
    site.seed(*one, *words[:1], "a b", words[2], stdin="x\n").refused("username", "")
    assert site.failed_logins() == {"redfish": 0, "ipmi": 0}


# --- logins ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(site: Site) -> dict[str, tuple[Said, dict[str, int]]]:
    """The same wrong password twice, then the right one; what was said and what the BMCs saw."""
    right = site.lab.layout.password_file.read_text().strip()
    told = {}
    for when, password in (("first", WRONG), ("again", WRONG), ("right", right)):
        said = site.discover(BOTH, password)
        if when == "first":  # ipmi_sim's relay counts once the client has given up for 3 s
            until(lambda: set(site.failed_logins().values()) == {1}, 20, "the BMCs' count")
        told[when] = (said, site.failed_logins())
    return told


def test_a_wrong_login_is_said_for_each_bmc(found: dict[str, Any]) -> None:
    said, counted = found["first"]
    assert counted == {"redfish": 1, "ipmi": 1}
    assert said.code == REFUSED
    for address in (REDFISH, IPMI):
        assert f"the BMC {address} refused the login" in said.err
        assert f"seed discover {address} --username U --password-stdin" in said.err
    assert WRONG not in said.out + said.err


def test_the_same_wrong_login_reaches_no_bmc_again(found: dict[str, Any]) -> None:
    said, counted = found["again"]
    assert counted == {"redfish": 1, "ipmi": 1}
    assert said.code == REFUSED
    for address in (REDFISH, IPMI):
        assert f"BMC {address} refused this login before; it was not tried again" in said.err
    assert said.err.count("  try: ") == 2


def test_the_right_login_works_at_once(site: Site, found: dict[str, Any]) -> None:
    said, counted = found["right"]
    assert (said.code, counted) == (0, {"redfish": 1, "ipmi": 1})
    rows = {b["address"]: b for b in site.ask("bmc", "list")}
    assert (rows[REDFISH]["serial"], rows[IPMI]["serial"]) == ("LAB-0001", "LAB-0002")
    assert {rows[a]["login"] for a in (REDFISH, IPMI)} == {"ok"}
    assert {rows[a]["problem"] for a in (REDFISH, IPMI)} == {""}


def test_inspect_and_locate_leave_the_power_alone(site: Site, found: dict[str, Any]) -> None:
    """Not bad input: what comes before it, by the same appliance and the same BMCs."""
    site.done("bmc", "inspect", REDFISH, IPMI)
    server = next(row for row in site.lab_status() if row["protocol"] == "redfish")
    told = site.ask("bmc", "show", REDFISH)
    assert told["inventory"]["serial"] == "LAB-0001"
    assert [drive["serial"] for drive in told["inventory"]["drives"]] == ["LAB-0001-D0"]
    assert [nic["mac"] for nic in told["inventory"]["nics"]] == server["macs"]
    assert {choice["interface"]: choice["value"] for choice in told["interfaces"]}[
        "vendor_interface"
    ] == "no-vendor"
    assert "cipher suite 17 is not offered" in site.done("bmc", "show", IPMI)
    site.done("bmc", "locate", REDFISH, "--on")
    assert site.ask("bmc", "show", REDFISH)["led"] == "on"
    site.done("bmc", "locate", REDFISH, "--off")
    assert site.failed_logins() == {"redfish": 1, "ipmi": 1}
    assert {row["power"] for row in site.lab_status()} == {"off"}
    for words in (("inspect", NOBODY), ("locate", NOBODY, "--on")):
        site.seed("bmc", *words).refused(
            f"no BMC {NOBODY} was found yet", f"seed discover {NOBODY}"
        )


def test_no_password_is_in_a_log(site: Site, found: dict[str, Any]) -> None:
    right = site.lab.layout.password_file.read_text().strip()
    for path in [p for p in (site.base / "log").rglob("*") if p.is_file()]:
        text = path.read_text(errors="replace")
        assert WRONG not in text, path
        assert right not in text, path


@pytest.fixture(scope="module")
def liars(site: Site) -> Iterator[Path]:
    """Two BMCs that answer nonsense; the file holds what they saw."""
    for address in (REDFISH_LIAR, IPMI_LIAR):
        ip("-n", NAMESPACE, "address", "add", f"{address}/32", "dev", "oob0")
    tls, log = site.lab.layout.bmc("server1"), site.base / "liars.log"
    argv = [sys.executable, "-m", "tests.fakes.liars", str(tls), REDFISH_LIAR, IPMI_LIAR]
    with log.open("wb") as out:
        process = subprocess.Popen([*netns.prefix(NAMESPACE), *argv], stdout=out, cwd=TOP)
    try:
        until(lambda: "ready" in log.read_text(), 20, "the liars")
        yield log
    finally:
        process.kill()
        process.wait(10)


def test_nonsense_is_called_nonsense(site: Site, liars: Path) -> None:
    begin = time.monotonic()
    said = site.discover(f"{REDFISH_LIAR}-{NOBODY}", OTHER)
    print(f"nonsense took {time.monotonic() - begin:.1f} s")
    assert said.code == REFUSED
    assert "Traceback" not in said.err
    assert f"Redfish on BMC {REDFISH_LIAR} answered nonsense" in said.err
    assert f"IPMI on BMC {IPMI_LIAR} " in said.err
    assert said.err.count("  try: ") == 2
    assert NOBODY not in said.out
    assert OTHER not in said.out + said.err
    with site.store.read() as session:
        assert {d.state for d in session.exec(select(Discovery))} == {"done"}


def test_a_bmc_without_a_working_login_is_not_accepted(site: Site, liars: Path) -> None:
    said = site.seed("bmc", "accept", REDFISH_LIAR, "--name", "liar")
    said.refused(f"no login to BMC {REDFISH_LIAR} has worked", f"seed discover {REDFISH_LIAR}")
    said = site.seed("bmc", "accept", NOBODY)
    said.refused(f"no BMC {NOBODY} was found", f"seed discover {NOBODY}")
    assert site.ask("node", "list") == []


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Upper", "..", "a" * 64, "-rf", "a b"])
def test_names_of_nodes(site: Site, found: dict[str, Any], name: str) -> None:
    said = site.seed("bmc", "accept", REDFISH, f"--name={name}")
    said.refused("name: only a-z, 0-9 and '-', at most 59", "web-1")
    assert site.ask("node", "list") == []


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "zz"])
def test_macs(site: Site, found: dict[str, Any], mac: str) -> None:
    said = site.seed("bmc", "accept", IPMI, "--name", "node-2", "--mac", mac)
    said.refused(mac, "52:54:00:12:34:56")
    assert site.ask("bmc", "show", IPMI)["macs"] == []
    assert site.ask("node", "list") == []


@pytest.mark.parametrize(
    ("noun", "name"),
    [
        ("bmc", "../nodes"), ("node", ".."), ("claim", "a/b"), ("image", "%2e%2e"), ("bmc", "x?y"),
        ("node", "-rf"), ("claim", ""),
    ],
)  # fmt: skip
def test_names_never_lead_elsewhere(site: Site, noun: str, name: str) -> None:
    site.seed(noun, "show", "--", name).refused(f"{name!r} is no name or address", "Letters")


def test_what_is_not_there(site: Site) -> None:
    for words in (("show", "nope"), ("release", "nope", "--yes")):
        site.seed("claim", *words).refused("there is no claim 'nope'", "seed claim list")
    for words in (("show", "nope"), ("provide", "nope", "--yes")):
        site.seed("node", *words).refused("there is no node 'nope'", "seed node list")
    site.seed("image", "show", "nope").refused("there is no image 'nope'", "seed image")
    site.seed("image", "build", "nope").refused("no recipe 'nope'", "seed image build")
    site.seed("token", "revoke", "nope").refused("nope", "seed token list")
    site.seed("logs", "nope").refused("nope", "seed logs SERVICE")


# --- images ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disks(site: Site) -> dict[str, Path]:
    """A whole qcow2, and one that stands on it."""
    base, top = site.base / "whole.qcow2", site.base / "top.qcow2"
    for argv in ([str(base), "8M"], ["-b", str(base), "-F", "qcow2", str(top)]):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *argv], check=True, timeout=30)
    return {"whole": base, "top": top}


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_images(site: Site, disks: dict[str, Path]) -> None:
    def publish(path: Path, digest: str, name: str = "own") -> Said:
        return site.seed("image", "publish", name, str(path), "--sha256", digest)

    whole, top = disks["whole"], disks["top"]
    text = Path(site.file("notes.txt", "x" * 600))
    seen = publish(whole, "0" * 64)
    seen.refused("whole.qcow2 is not the file asked for", f"sha256sum {whole}")
    assert digest(whole) in seen.err
    publish(whole, "abc").refused("'abc' is no SHA-256: 64 hex digits", "sha256sum")
    publish(top, digest(top)).refused("top.qcow2 needs a second file (backing file)", str(top))
    publish(text, digest(text)).refused("notes.txt is neither a qcow2 nor a raw", f"file {text}")
    publish(site.base / "no.qcow2", "0" * 64).refused("there is no file", "ls -l")
    publish(whole, digest(whole), "../own").refused("'../own' is no image name", "NAME")
    assert list(site.settings.image_dir.iterdir()) == [], "no part of any of them stays"


# --- claims ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def enrolled(site: Site, found: dict[str, Any]) -> Site:
    """The Redfish server as node-1: enrolled, and, as far as Ironic knows, inspected.

    No ramdisk is published, so nothing ever comes to boot.
    """
    site.done("bmc", "accept", REDFISH, "--name", "node-1")
    until(lambda: bool(site.ask("node", "show", "node-1")["problem"]), 90, "a word on the ramdisk")
    site.seen["stuck"] = site.ask("node", "show", "node-1")
    site.seen["early"] = site.seed("node", "provide", "node-1", "--yes")
    inspected(site)
    until(lambda: "inspected" in site.ask("node", "list")[0]["detail"], 60, "the node's row")
    return site


def inside(site: Site, do: Callable[[Ironic, UUID], Any]) -> Any:
    """What `do` returns in the appliance's namespace, by the reconciler's own objects."""
    settings = site.settings
    with site.store.read() as session:
        bmc = session.exec(select(Bmc).where(Bmc.address == REDFISH)).one()
    return netns.call(
        settings.namespace, lambda: do(reconciler.make(settings).parts.ironic, bmc.node)
    )


def inspected(site: Site) -> None:
    """Ironic's own record of an inspection: a real one would boot the server."""
    database = sqlite3.connect(Paths(site.settings).ironic_db, timeout=30)
    with closing(database), database:
        database.execute("UPDATE nodes SET inspection_finished_at = datetime('now')")


def test_without_a_ramdisk_nothing_boots(enrolled: Site) -> None:
    stuck = enrolled.seen["stuck"]
    assert stuck["problem"].startswith("there is no image 'ramdisk'")
    assert stuck["remedy"] == "seed image build ramdisk"
    assert (stuck["provision_state"], stuck["power_state"]) == ("manageable", "power off")


def test_a_node_that_was_not_inspected_is_not_provided(enrolled: Site) -> None:
    enrolled.seen["early"].refused("node-1 is not inspected yet", "seed node watch node-1")


def test_a_name_is_given_once(enrolled: Site) -> None:
    said = enrolled.seed("bmc", "accept", IPMI, "--name", "node-1")
    said.refused("the name node-1 belongs to", f"seed bmc accept {IPMI} --name")
    said = enrolled.seed("bmc", "accept", REDFISH, "--name", "other")
    said.refused("already accepted as node-1", "seed node show node-1")
    assert [n["name"] for n in enrolled.ask("node", "list")] == ["node-1"]


def test_claims(enrolled: Site, disks: dict[str, Path]) -> None:
    site = enrolled
    key = site.base / "key"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(argv, check=True, timeout=30)
    good, bad = f"{key}.pub", site.file("bad.pub", "this is no key\n")

    def claim(name: str = "web", image: str = "own", key: str = good, **more: str) -> Said:
        words = [f"--{k.replace('_', '-')}={v}" for k, v in more.items()]
        return site.seed(
            "claim", "create", f"--image={image}", f"--ssh-key={key}", *words, "--", name
        )

    claim(image="debian").refused("there is no image 'debian'; none is published", "seed image")
    whole = disks["whole"]
    site.done("image", "publish", "own", str(whole), "--sha256", digest(whole))
    claim(image="debian").refused("there is no image 'debian'; published are: own", "image list")
    claim(key=bad).refused("SSH key 1 is not an OpenSSH public key", "ssh-ed25519 AAAA")
    private = claim(key=str(key))
    private.refused("SSH key 1 is a private key", ".pub")
    assert "OPENSSH" not in private.err
    claim(key=str(site.base / "no.pub")).refused("cannot read", "ls -l", USAGE)
    claim(key=str(whole)).refused("is not a text file", f"file {whole}", USAGE)
    for name in ("Web", "a" * 64):
        claim(name).refused("name: only a-z, 0-9 and '-'", "web-1")
    for name in ("..", "-rf", "a/b"):
        claim(name).refused("is no name or address", "Letters")
    gold = claim(resource_class="gold")
    gold_free = "wants 1 of class gold, free are 0; the classes are: baremetal"
    gold.refused(gold_free, "seed claim explain")
    assert "  node-1: it was not provided" in gold.err or "its class is baremetal" in gold.err
    many = claim(count="3")
    many.refused("wants 3 of class baremetal, free are 0", "seed claim explain")
    assert "  node-1: it was not provided" in many.err, "each node says why not"
    assert claim(count="0").code == claim(count="501").code == USAGE
    assert site.ask("claim", "list") == []
    assert site.count(Claim) == 0
    with site.store.read() as session:
        assert session.exec(select(Hold).where(col(Hold.claim_id).is_not(None))).all() == []


# --- plans ----------------------------------------------------------------------------------------


def test_plans(enrolled: Site) -> None:
    site = enrolled

    def provide(plan: str, *names: str) -> httpx.Response:
        return site.api("/v1/nodes:provide", {"nodes": list(names or ["node-1"]), "plan": plan})

    def conflict(answer: httpx.Response, sentence: str) -> None:
        assert answer.status_code == 409, answer.text
        assert sentence in answer.json()["detail"]
        assert "new plan" in answer.json()["remedy"]

    conflict(provide("f" * 64), "there is no such plan to provide")
    conflict(provide(""), "there is no such plan to provide")
    plan = site.api("/v1/nodes:plan-provide", {"nodes": ["node-1"]}).json()["hash"]
    with site.store.write() as session:
        session.get_one(Plan, plan).expires_at = now()
    conflict(provide(plan), "the plan is older than 15 minutes")
    plan = site.api("/v1/nodes:plan-provide", {"nodes": ["node-1"]}).json()["hash"]
    with site.store.write() as session:
        session.exec(select(Hold)).one().generation += 1
    conflict(provide(plan), "something changed since the plan was made")
    assert provide(plan, "node-1", "node-1").status_code == 409
    none = site.api("/v1/nodes:plan-provide", {"nodes": []})
    assert (none.status_code, none.json()["detail"]) == (422, "the plan names no node")
    typed = site.seed("node", "provide", "node-1", stdin="yes\n")
    assert typed.code == REFUSED
    assert "nothing was done" in typed.err
    with site.store.read() as session:
        assert {b.goal for b in session.exec(select(Bmc))} == {"observed", "managed"}


# --- this machine ---------------------------------------------------------------------------------


def test_settings(site: Site, tmp_path: Path) -> None:
    words = init(site, provisioning="nope0")
    said = site.seed(*words, SEED_CONFIG=str(tmp_path / "new.toml"))
    said.refused("interface nope0 does not exist; there are: mgmt0", "ip -n")
    assert list(tmp_path.iterdir()) == []
    for text, sentence in (
        ("not toml [", "cannot be read"),
        ("", "management: Field required"),
        ((site.base / "seed.toml").read_text() + "\ncolour = 1\n", "colour: Extra inputs"),
    ):
        broken = tmp_path / "broken.toml"
        broken.write_text(text)
        for words in (("up",), ("node", "list")):
            site.seed(*words, SEED_CONFIG=str(broken)).refused(sentence, str(broken))
    site.seed("up", SEED_CONFIG=str(tmp_path / "no.toml")).refused("there is no", "seed init")


def test_a_second_seed_on_the_wire(site: Site, tmp_path: Path) -> None:
    """Its ports are taken by the first one: it starts nothing and touches nothing."""
    config = str(tmp_path / "second.toml")
    places = {"state_dir": "state2", "run_dir": "run2", "log_dir": "log2"}
    words = init(site, **{k: str(site.base / v) for k, v in places.items()})
    assert site.seed(*words, SEED_CONFIG=config).code == 0
    site.seed("up", SEED_CONFIG=config).refused("already listens on", "kill")
    assert not (site.base / "state2").exists()
    site.done("status")


def test_nobody_answers(site: Site, tmp_path: Path) -> None:
    config = str(tmp_path / "elsewhere.toml")
    words = init(site, run_dir=str(tmp_path / "run"))
    assert site.seed(*words, SEED_CONFIG=config).code == 0
    for words in (["node", "list"], ["discover", REDFISH]):
        said = site.seed(*words, SEED_CONFIG=config)
        said.refused("Seed does not answer at", "seed up", UNAVAILABLE)
    site.seed("status", SEED_CONFIG=config).refused("not running", "seed up")


# --- another server behind the same BMC address; the last one: it spoils the lab ------------------


def test_a_server_that_was_swapped_is_never_touched(enrolled: Site) -> None:
    site, before = enrolled, ironic_node(enrolled)
    with another_server(site.lab, "LAB-9999"):
        site.done("node", "provide", "node-1", "--yes")
        until(lambda: bool(site.ask("node", "show", "node-1")["problem"]), 60, "the refusal")
        shown = site.ask("node", "show", "node-1")
        watched = site.seed("node", "watch", "node-1", "--until", "available")
        after = ironic_node(site)
    assert shown["problem"] == (
        f"BMC {REDFISH} says serial LAB-9999, node-1 was accepted with LAB-0001"
    )
    assert "No disk was touched" in shown["remedy"]
    watched.refused(shown["problem"], f"seed bmc forget {REDFISH}")
    same = ("provision_state", "target", "power_state", "reservation", "last_error")
    assert [getattr(after, k) for k in same] == [getattr(before, k) for k in same]
    assert (after.provision_state, after.power_state) == ("manageable", "power off")
    with site.store.read() as session:
        assert session.exec(select(Order)).all() == [], "no ramdisk was ever let in"
    assert site.failed_logins() == {"redfish": 1, "ipmi": 1}, "over the whole run"


def ironic_node(site: Site) -> Node:
    node: Node = inside(site, lambda ironic, uuid: ironic.node(uuid))
    return node


@contextmanager
def another_server(lab: Lab, serial: str) -> Iterator[None]:
    """The lab's Redfish BMC, started anew, reports another serial."""
    directory = lab.layout.bmc("server1")
    lab.processes.stop(service(lab.scenario.server("server1")))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"serial": serial}))
    (directory / "ready").unlink(missing_ok=True)
    argv = [str(lab.bmcs.python), "-m", "seed.lab.redfish_bmc", str(directory / "config.json")]
    env = {**os.environ, "PYTHONPATH": str(lab.layout.python_path)}
    process = subprocess.Popen(lab.namespace.inside(*argv), env=env, cwd="/")
    try:
        until((directory / "ready").exists, 30, "the other BMC")
        yield
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def a_stranger(site: Site) -> Iterator[Path]:
    """Somebody else at the BMC's address, with a certificate of his own; what he heard."""
    tls, log = site.base / "stranger", site.base / "stranger.log"
    tls.mkdir()
    spec = site.lab.scenario.server("server1").bmc
    self_signed(spec, tls / "cert.pem", tls / "key.pem")
    argv = [sys.executable, "-m", "tests.fakes.liars", str(tls), REDFISH, REDFISH]
    with log.open("wb") as out:
        process = subprocess.Popen([*netns.prefix(NAMESPACE), *argv], stdout=out, cwd=TOP)
    try:
        until(lambda: "ready" in log.read_text(), 20, "the stranger")
        yield log
    finally:
        process.kill()
        process.wait(10)


def typed(site: Site, remedy: str, verb: str) -> Said:
    """The command of this verb that the remedy names, as it stands there."""
    (words,) = [w.split() for w in remedy.split("`")[1::2] if w.startswith(f"seed {verb} ")]
    return site.seed(*words[1:])


def test_a_certificate_changed_between_check_and_order(enrolled: Site) -> None:
    """A stranger hears no login. The true BMC, reset, is trusted as the remedy says."""
    site, before = enrolled, ironic_node(enrolled)
    pinned = site.ask("bmc", "show", REDFISH)["fingerprint"]

    def shown() -> dict[str, Any]:
        return dict(site.ask("node", "show", "node-1"))

    with a_stranger(site) as heard:
        until(lambda: "certificate of BMC" in shown()["problem"], 60, "the refusal")
        stranger = shown()
        changed = f"the certificate of BMC {REDFISH} changed since it was accepted"
        assert stranger["problem"] == f"{changed}; nothing was sent there"
        site.seed("node", "watch", "node-1", "--until", "available").refused(
            stranger["problem"], f"seed bmc trust {REDFISH} "
        )
        told = site.seed("discover", REDFISH)
        assert f"the certificate of BMC {REDFISH} changed" in told.err
        assert "login" not in heard.read_text(), "not even Ironic's"
    certificate, key = (site.lab.layout.bmc("server1") / n for n in ("cert.pem", "key.pem"))
    self_signed(site.lab.scenario.server("server1").bmc, certificate, key)
    with another_server(site.lab, "LAB-0001"):
        renewed = fingerprint(certificate.read_text())
        until(lambda: renewed in shown()["remedy"], 60, "a look at the BMC that was reset")
        assert typed(site, stranger["remedy"], "bmc trust").code == REFUSED, "he is gone"
        assert site.ask("bmc", "show", REDFISH)["fingerprint"] == pinned
        done = typed(site, shown()["remedy"], "bmc trust")
        assert done.code == 0, done.err
        # The order goes on, as far as it can: no ramdisk is published.
        until(lambda: "no image 'ramdisk'" in shown()["problem"], 60, "the next step")
        assert ironic_node(site).uuid == before.uuid
        told_ironic = Path(Paths(site.settings).bmc_ca).glob("*.pem")
        assert certificate.read_text().strip() in {p.read_text().strip() for p in told_ironic}
    assert site.failed_logins() == {"redfish": 1, "ipmi": 1}, "over the whole run"
