"""A cluster's member on its node: real processes, openssl, and a real TLS server on loopback."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from provisioning import on_node
from provisioning.kinds import NAME, Step
from provisioning.on_node import Changes
from seed.host import tls
from seed.host.paths import Paths
from tests.fakes.appliance import until
from tests.fakes.members import TOKEN, Gateway, a_gateway
from tests.fakes.settings import some_settings

WIRE = "127.76.0.1"
SCRIPT = Path(on_node.__file__).with_name("member.py")
FAST = {"BETWEEN_REPORTS": 0.02, "LONGEST_PAUSE": 0.2, "LATER": 0.1, "GRACE": 0.5,
        "ORDERS_EVERY": 0.05}  # fmt: skip


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return a_gateway(tmp_path, WIRE)


@pytest.fixture
def up(gateway: Gateway) -> Iterator[Gateway]:
    with gateway.up():
        yield gateway


def step(name: str, shell: str, **facts: Any) -> Step:
    facts = {"try_seconds": 10, "pause_seconds": 0, "patience_seconds": 60} | facts
    return Step(name, ("/bin/sh", "-c", shell), **facts)


def soon(condition: Callable[[], object]) -> None:
    until(condition, 20, "it")


@dataclass
class Node:
    """One node's folder, as the parts lay it there."""

    home: Path
    gateway: Gateway
    cluster: str = "c1"

    def has(
        self, *steps: Step, check: tuple[str, ...] = (), changes: Changes | None = None,
        **more: Any,
    ) -> "Node":  # fmt: skip
        secret = [str(self.home / "secret")]
        _, parts = on_node.member(
            self.gateway.url, TOKEN, self.gateway.ca, self.cluster, self.home.name, steps, check,
            secret, changes,
        )  # fmt: skip
        self.home.mkdir(exist_ok=True)
        for part in parts:
            (self.home / Path(part.path).name).write_bytes(part.content)
        config = json.loads((self.home / "member.json").read_text())
        config |= {"state": str(self.home / "state"), "key": str(self.home / "key")} | more
        (self.home / "member.json").write_text(json.dumps(config))
        return self

    @contextmanager
    def running(self, **constants: Any) -> Iterator[subprocess.Popen[bytes]]:
        """As its unit starts it, but in a hurry; its log is node.log. Ended by SIGKILL."""
        hurry = f"space = m['main'].__globals__; space.update({FAST | constants!r})"
        code = f"import runpy; m = runpy.run_path({str(self.home / 'member.py')!r}); {hurry}"
        argv = [sys.executable, "-c", f"{code}; m['main']([])"]
        with (self.home / "log").open("ab") as log:
            process = subprocess.Popen(argv, stderr=log, stdout=log)
        try:
            yield process
        finally:
            left = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            groups = left.read_text().split() if left.exists() else []
            process.kill()
            process.wait(10)
            for group in groups:  # as systemd does
                with suppress(ProcessLookupError):
                    os.killpg(int(group), signal.SIGKILL)

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(self.home / "member.py"), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)

    def log(self) -> str:
        return (self.home / "log").read_text()

    def done(self) -> bool:
        return self.gateway.said("") == ["done"]


@pytest.fixture
def node(tmp_path: Path, gateway: Gateway) -> Node:
    return Node(tmp_path / "n1", gateway)


def notes(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# --- steps --------------------------------------------------------------------------------------


def test_steps_run_in_order_and_the_seed_is_told(node: Node, up: Gateway, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    node.has(*(step(name, f"echo {name} >>{trace}") for name in ("one", "two", "three")))
    with node.running():
        soon(node.done)
    assert notes(trace) == ["one", "two", "three"]
    for name in ("one", "two", "three", ""):
        assert up.said(name)[-1] == "done"
    assert up.reports[0] | {"seconds": 0} in [
        {"cluster": "c1", "member": "n1", "step": "one", "state": state, "detail": "",
         "missing": "", "seconds": 0} for state in ("running", "done")
    ]  # fmt: skip


def test_at_most_one_report_a_second_and_the_last_word_comes(
    node: Node, up: Gateway, tmp_path: Path
) -> None:
    """Each try says something else, many times a second."""
    tries = step("one", f"echo try $$; echo x >>{tmp_path}/trace; test -e {tmp_path}/go")
    node.has(tries)
    with node.running(BETWEEN_REPORTS=1):
        soon(lambda: len(up.reports) == 3)
        (tmp_path / "go").touch()
        soon(node.done)
    gaps = [later - sooner for sooner, later in pairwise(up.came)]
    assert min(gaps) >= 0.95
    assert len(notes(tmp_path / "trace")) > len(up.reports)
    assert up.said("one")[-1] == "done"


def test_killed_in_a_step_it_goes_on_where_it_was(node: Node, up: Gateway, tmp_path: Path) -> None:
    trace, go = tmp_path / "trace", tmp_path / "go"
    second = f"echo two >>{trace}; echo $$ >{tmp_path}/pid; until test -e {go}; do sleep .05; done"
    node.has(step("one", f"echo one >>{trace}"), step("two", second), step("three", ":"))
    with node.running() as process:
        soon(lambda: notes(tmp_path / "pid") and up.said("two"))  # no report is on its way then
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    os.killpg(int(notes(tmp_path / "pid")[0]), signal.SIGKILL)  # as systemd does then
    up.reports.clear()
    go.touch()
    with node.running():
        soon(node.done)
    assert notes(trace) == ["one", "two", "two"]
    assert up.said("one") == ["done"], "the seed may have missed it"
    up.reports.clear()
    with node.running():  # and once more, as after a restart of the node
        soon(node.done)
    assert notes(trace) == ["one", "two", "two"]


def test_patience_goes_on_where_a_restart_left_it(node: Node, up: Gateway, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    node.has(step("one", f"echo x >>{trace}; false", patience_seconds=1))
    with node.running():
        soon(lambda: "failed" in up.said("one"))
    up.reports.clear()
    with node.running():
        soon(lambda: up.said("one"))
    assert set(up.said("one")) == {"failed"}, "a restart is no new patience"


def test_a_step_that_was_done_by_somebody_else_is_over(node: Node, up: Gateway) -> None:
    node.has(step("one", "exit 7", done="/etc/passwd"))
    with node.running():
        soon(node.done)


def test_a_step_without_its_result_is_not_over(node: Node, up: Gateway, tmp_path: Path) -> None:
    result = tmp_path / "result"
    node.has(step("one", f"test -e {tmp_path}/go && touch {result}; true", done=str(result)))
    with node.running():
        soon(lambda: any(f"but {result} is not there" in r["detail"] for r in up.reports))
        assert not node.done()
        (tmp_path / "go").touch()
        soon(node.done)


@pytest.mark.parametrize("patience", [60, 0], ids=["in time", "after its patience was over"])
def test_a_missing_file_is_named_and_waited_for(
    node: Node, up: Gateway, tmp_path: Path, patience: float
) -> None:
    wanted = tmp_path / "kubeadm"
    state = "waiting" if patience else "failed"
    node.has(step("init", "true", wants=("/bin/sh", str(wanted)), patience_seconds=patience))
    with node.running():
        soon(lambda: state in up.said("init"))
        told = next(r for r in up.reports if r["state"] == state)
        assert (told["missing"], told["detail"]) == (str(wanted), f"{wanted} is not there")
        wanted.touch()
        soon(node.done)


def test_a_missing_program_is_named(node: Node, up: Gateway, tmp_path: Path) -> None:
    program = tmp_path / "kubeadm"
    node.has(Step("init", (str(program), "init"), pause_seconds=0))
    with node.running():
        soon(lambda: any(r["missing"] == str(program) for r in up.reports))
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        soon(node.done)


def test_a_step_that_hangs_is_ended_with_all_that_it_began(
    node: Node, up: Gateway, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    stubborn = "trap '' TERM; while :; do sleep .05; done"
    hangs = f"sh -c {shlex.quote(stubborn)} & echo $$ $! >>{pids}; echo waiting for godot; wait"
    go = f"test -e {tmp_path}/go && exit 0; "
    node.has(step("init", go + hangs, try_seconds=0.3))
    with node.running():
        soon(lambda: len(notes(pids)) >= 4)
        first = [int(pid) for pid in notes(pids)[:2]]
        soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in first))
        (tmp_path / "go").touch()
        soon(node.done)
    told = [report["detail"] for report in up.reports]
    assert "it did not end within 0.3 s: waiting for godot" in told


def test_a_daemon_that_a_step_leaves_behind_holds_nothing_up(
    node: Node, up: Gateway, tmp_path: Path
) -> None:
    node.has(step("begin", f"sleep 60 & echo $! >{tmp_path}/pid"))
    with node.running():
        soon(node.done)
    os.kill(int(notes(tmp_path / "pid")[0]), signal.SIGKILL)  # it was left alone


def test_two_at_once_never_are(node: Node, up: Gateway) -> None:
    node.has(step("one", "sleep 30"))
    with node.running():
        soon(lambda: up.said("one"))
        other = node.verb()
    assert other.returncode == 1
    assert "another member.py runs" in other.stderr


# --- reports ------------------------------------------------------------------------------------


def test_no_report_has_a_secret(node: Node, up: Gateway) -> None:
    node.has()
    secret, key = "join: s3cr3t-of-the-cluster\npin s3 cr3t\n", "0123456789abcdef" * 4
    (node.home / "secret").write_text(secret)
    (node.home / "key").write_text(key)
    shell = (
        f"cat {node.home}/secret {node.home}/key; echo 'Bearer {TOKEN}'; echo only"
        " pin s3 cr3t s3cr3t-of-the-cluster; yes a-line-of-noise | head -n 2000;"
        " echo the end >&2; exit 3"
    )
    tail = shell.replace("yes a-line-of-noise | head -n 2000;", "")
    node.has(step("long", shell, patience_seconds=0), step("never", ":"))
    with node.running():
        soon(lambda: "failed" in up.said("long"))
    node.has(step("short", tail, patience_seconds=0))
    with node.running():
        soon(lambda: "failed" in up.said("short"))
    told = {r["step"]: r["detail"] for r in up.reports if r["state"] == "failed"}
    assert told["long"].startswith("it ended with 3: ")
    assert told["long"].endswith("a-line-of-noise\nthe end")
    assert 2000 < len(told["long"]) < 2100
    assert told["short"].count("[secret]") == 6
    for text in (json.dumps(up.reports), node.log()):
        assert not re.search(f"s3 ?cr3t|{key}|{TOKEN}", text)


def test_a_secret_that_is_cut_is_not_told_by_its_half(node: Node, up: Gateway) -> None:
    node.has()
    secret = "".join(f"{n:06d}" for n in range(4000))
    (node.home / "secret").write_text(secret)
    node.has(step("one", f"cat {node.home}/secret; echo; echo end; false", patience_seconds=0))
    with node.running():
        soon(lambda: "failed" in up.said("one"))
    assert up.reports[-1]["detail"] == "it ended with 1: end"


def test_a_seed_that_is_down_stops_nothing_and_hears_it_later(
    node: Node, gateway: Gateway, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    node.has(step("one", f"echo one >>{trace}"), step("two", f"echo two >>{trace}"))
    with node.running():
        soon(lambda: notes(trace) == ["one", "two"])
        soon(lambda: "could not be reached: ConnectionRefusedError" in node.log())
        with gateway.up():
            soon(node.done)
    assert [gateway.said(name) for name in ("one", "two", "")] == [["done"]] * 3
    said = [line for line in node.log().splitlines() if "could not be reached" in line]
    assert len(said) == len({*said}), "said once"


def test_what_comes_while_the_seed_thinks_is_told_after(node: Node, up: Gateway) -> None:
    up.answers.clear()
    node.has(step("one", ":"))
    with node.running():
        soon(lambda: len(up.reports) == 1 and "one done" in node.log())
        up.answers.set()
        soon(node.done)
    assert up.said("one")[-1] == "done"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\xff\x17nonsense\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"HTTP/1.1 \r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n", b"HTTP/1.1 500 " + b"x" * 70_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=lambda raw: repr(raw[:20]),
)  # fmt: skip
def test_a_reply_that_is_garbage_is_no_answer(
    node: Node, up: Gateway, tmp_path: Path, garbage: bytes
) -> None:
    up.raw = garbage
    node.has(step("one", f"echo one >>{tmp_path}/trace"))
    with node.running():
        soon(lambda: notes(tmp_path / "trace") == ["one"])
        soon(lambda: "could not be reached" in node.log())
        up.raw = b""
        soon(node.done)
    assert "Traceback" not in node.log()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the seed refuses this member's token (401)"), (302, "the seed answered 302"),
        (503, "the seed answered 503"),
        (429, "the seed answered 429"),
    ],
)  # fmt: skip
def test_a_refusal_is_said_and_the_steps_go_on(
    node: Node, up: Gateway, tmp_path: Path, status: int, said: str
) -> None:
    up.status = status
    node.has(step("one", f"echo one >>{tmp_path}/trace"))
    with node.running():
        soon(lambda: notes(tmp_path / "trace") == ["one"])
        soon(lambda: said in node.log() and "all steps done" in node.log())
        asked = len(up.asked)
        soon(lambda: len(up.asked) > asked + 3)
        up.status = 204
        soon(node.done)
        soon(lambda: "takes reports again" in node.log())
    assert {path for _, path in up.asked} == {"/v1/members", "/v1/members/orders"}, (
        "the token went nowhere else"
    )


def test_a_report_that_the_seed_cannot_take_holds_up_no_other(
    node: Node, up: Gateway, tmp_path: Path
) -> None:
    up.status = 422
    node.has(step("one", ":"), step("two", f"until test -e {tmp_path}/go; do sleep .05; done"))
    with node.running():
        soon(lambda: any(told["step"] == "two" for told in up.refused))  # so all of "one" are
        up.status = 204
        (tmp_path / "go").touch()
        soon(node.done)
    assert up.said("one") == []


def test_another_servers_certificate_is_not_believed(
    node: Node, up: Gateway, tmp_path: Path
) -> None:
    other = some_settings(tmp_path / "other")
    tls.ensure(other)
    node.has(step("one", ":"), ca=(Paths(other).tls / "ca.pem").read_text())
    with node.running():
        soon(lambda: "could not be reached: SSLCertVerificationError" in node.log())
    assert up.asked == []


def test_the_check_tells_its_changes_only(node: Node, up: Gateway, tmp_path: Path) -> None:
    sick, trace = tmp_path / "sick", tmp_path / "trace"
    shell = f"echo x >>{trace}; if test -e {sick}; then echo not Ready; exit 1; fi"
    node.has(step("one", ":"), check=("/bin/sh", "-c", shell), check_seconds=0.02)
    with node.running():
        soon(lambda: len(notes(trace)) > 5)
        sick.touch()
        soon(lambda: "failed" in up.said("check"))
        sick.unlink()
        soon(lambda: up.said("check") == ["done", "failed", "done"])
    assert "it ended with 1: not Ready" in [report["detail"] for report in up.reports]


# --- orders -------------------------------------------------------------------------------------


def orders(**told: Any) -> dict[str, Any]:
    return {"goal": "joined", "drain": [], "forget": [], "files": {}} | told


def for_another(verb: str, tmp_path: Path, fails: str = "false") -> Step:
    shell = f"echo {verb} $1 >>{tmp_path}/trace; ! {{ {fails}; }}"
    return Step(verb, ("/bin/sh", "-c", shell, "sh", NAME), try_seconds=10)


def test_who_is_told_to_leaves_whatever_step_it_is_at(
    node: Node, up: Gateway, tmp_path: Path
) -> None:
    """Its unit starts it anew: the step that ran is ended, and no other one runs."""
    trace = tmp_path / "trace"
    leave = [step(name, f"echo {name} >>{trace}") for name in ("stop", "reset")]
    node.has(step("join", f"echo join >>{trace}; sleep 60"), changes=Changes(leave=leave))
    with node.running() as process:
        soon(lambda: notes(trace) == ["join"])
        up.orders = orders(goal="leaving")
        assert process.wait(20) == 0
    for _ in range(2):  # and after a restart in the midst of it
        up.reports.clear()
        with node.running():
            soon(lambda: up.said("left") == ["done"])
        assert notes(trace) == ["join", "stop", "reset"]
    assert up.said("reset") == ["done"]
    assert up.said("") == []


def test_who_could_not_leave_goes_on_with_it_after_a_death(
    node: Node, up: Gateway, tmp_path: Path
) -> None:
    trace, go = tmp_path / "trace", tmp_path / "go"
    leave = [step(n, f"echo {n} >>{trace}; test -e {go}") for n in ("stop", "reset")]
    node.has(changes=Changes(leave=leave))
    up.orders = orders(goal="leaving")
    with node.running() as process:
        assert process.wait(20) == 0
    up.orders = orders()  # nobody takes it back
    with node.running() as process:
        soon(lambda: "waiting" in up.said("stop"))
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    go.touch()
    with node.running():
        soon(lambda: up.said("left") == ["done"])
    assert notes(trace)[-2:] == ["stop", "reset"]


def test_others_are_drained_and_forgotten_by_name(node: Node, up: Gateway, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    changes = Changes(
        drain=[for_another("drain", tmp_path, f"test ! -e {gone}")],
        forget=[for_another("forget", tmp_path)],
    )
    node.has(step("one", ":"), changes=changes)
    up.orders = orders(drain=["web-worker-3"], forget=["web-control-0"])
    with node.running():
        soon(lambda: "waiting" in up.said("drain web-worker-3"))
        soon(lambda: up.said("forget web-control-0") == ["done"])
        gone.touch()
        soon(lambda: up.said("drain web-worker-3")[-1] == "done")
        soon(node.done)
    assert {"web-worker-3", "web-control-0"} == {*notes(tmp_path / "trace")[1::2]}


def test_who_has_nothing_to_do_for_another_says_that_it_is_done(node: Node, up: Gateway) -> None:
    node.has(step("one", ":"), changes=Changes())
    up.orders = orders(drain=["web-worker-3"])
    with node.running():
        soon(lambda: up.said("drain web-worker-3") == ["done"])


@pytest.mark.parametrize(
    "told",
    [
        None, [], "leaving", {"goal": ["leaving"]}, {"drain": 7}, {"files": []},
        {"forget": ["$(reboot)", "a b", "../x", "-n", "", "{name}", 7]},
    ],
    ids=str,
)  # fmt: skip
def test_an_order_that_is_none_does_nothing(
    node: Node, up: Gateway, tmp_path: Path, told: Any
) -> None:
    drain, leave, forget = ([for_another(v, tmp_path)] for v in ("drain", "leave", "forget"))
    changes = Changes(drain, leave, forget)
    node.has(step("one", ":"), changes=changes)
    up.orders = told if told is not None else "null"  # type: ignore[assignment]
    with node.running():
        soon(node.done)
        asked = len(up.asked)
        soon(lambda: len(up.asked) > asked + 3)
        up.orders = orders(forget=["web-control-0"])
        soon(lambda: up.said("forget web-control-0") == ["done"])
    assert "Traceback" not in node.log()
    assert {*notes(tmp_path / "trace")} == {"forget", "web-control-0"}


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What it was asked; it fails while tmp_path/fails is there."""
    bin_, asked = tmp_path / "bin", tmp_path / "asked"
    bin_.mkdir()
    text = f"#!/bin/sh\necho $* >>{asked}\necho it is broken\ntest ! -e {tmp_path}/fails\n"
    (bin_ / "systemctl").write_text(text)
    (bin_ / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    return asked


def test_a_file_that_names_the_peers_is_told_anew_and_its_unit_reloaded(
    node: Node, up: Gateway, tmp_path: Path, systemctl: Path
) -> None:
    file, other = tmp_path / "haproxy.cfg", tmp_path / "shadow"
    file.write_text("old")
    node.has(step("one", ":"), changes=Changes(fresh={str(file): "haproxy.service"}))
    (tmp_path / "fails").touch()
    up.orders = orders(files={str(file): "new", str(other): "never asked for"})
    with node.running():
        soon(lambda: "failed" in up.said("reload haproxy.service"))
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o644)
    (tmp_path / "fails").unlink()
    systemctl.unlink()
    with node.running():  # it died before the unit was told, and the file is right already
        soon(lambda: up.said("reload haproxy.service")[-1] == "done")
        told, asked = systemctl.read_text(), len(up.asked)
        soon(lambda: len(up.asked) > asked + 3)
    assert {*told.splitlines()} == {"try-reload-or-restart haproxy.service"}
    assert systemctl.read_text() == told, "not again"
    assert not other.exists()


# --- values -------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path, up: Gateway) -> tuple[Node, Node]:
    """Two members of one cluster, with its key."""
    nodes = Node(tmp_path / "n1", up).has(), Node(tmp_path / "n2", up).has()
    for one in nodes:
        (one.home / "key").write_text("k" * 64)
    return nodes


CONTENT = b"SWMTKN-1-\0\xff\n" * 100
PATH = "/v1/members/values/join"


def a_value(node: Node, name: str = "join") -> None:
    (node.home / "out").write_bytes(CONTENT)
    done = node.verb("put", name, str(node.home / "out"))
    assert done.returncode == 0, done.stderr


def test_a_value_comes_over_and_the_seed_cannot_read_it(pair: tuple[Node, Node]) -> None:
    one, other = pair
    a_value(one)
    assert b"SWMTKN" not in one.gateway.values[PATH]
    done = other.verb("get", "join", str(other.home / "in"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (other.home / "in").read_bytes() == CONTENT
    assert (other.home / "in").stat().st_mode & 0o777 == 0o600
    before = one.gateway.values[PATH]
    a_value(one)
    assert one.gateway.values[PATH] != before, "the same value does not look the same"


def test_who_gets_waits_until_it_is_there_and_who_finds_does_not(pair: tuple[Node, Node]) -> None:
    one, other = pair
    found = other.verb("find", "join", str(other.home / "in"))
    assert (found.returncode, found.stderr) == (0, "")
    assert not (other.home / "in").exists()
    argv = [sys.executable, str(other.home / "member.py"), "get", "join", str(other.home / "in")]
    with subprocess.Popen(argv) as waits:
        soon(lambda: one.gateway.asked.count(("GET", PATH)) >= 2)
        assert waits.poll() is None
        a_value(one)
        assert waits.wait(20) == 0
    assert (other.home / "in").read_bytes() == CONTENT
    (other.home / "in").unlink()
    assert other.verb("find", "join", str(other.home / "in")).returncode == 0
    assert (other.home / "in").read_bytes() == CONTENT


@pytest.mark.parametrize("place", [0, 20, 60, -1], ids=["mark", "mac", "salt", "end"])
def test_an_altered_value_is_refused(pair: tuple[Node, Node], place: int) -> None:
    one, other = pair
    a_value(one)
    altered = bytearray(one.gateway.values[PATH])
    altered[place] ^= 1
    one.gateway.values[PATH] = bytes(altered)
    refused(other)


def refused(node: Node) -> None:
    done = node.verb("get", "join", str(node.home / "in"))
    assert done.returncode == 1
    assert "is not of this cluster's key" in done.stderr
    assert not (node.home / "in").exists()


def test_another_names_clusters_or_keys_value_is_refused(pair: tuple[Node, Node]) -> None:
    one, other = pair
    values = one.gateway.values
    a_value(one, "other")
    values[PATH] = values["/v1/members/values/other"]
    refused(other)
    Node(one.home, one.gateway, "c2").has()
    a_value(one)
    refused(other)
    one.has()
    (one.home / "key").write_text("l" * 64)
    a_value(one)
    refused(other)
    (one.home / "other.key").write_text("k" * 64)
    one.verb("put", "join", str(one.home / "out"), str(one.home / "other.key"))
    assert other.verb("get", "join", str(other.home / "in")).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("put", "join", "large"), "at most 65536"),
        (("put", "join", "none"), "cannot be read"),
        (("put", "../join", "large"), "is no name of a value"),
        (("put", "join", "large", "short"), "too short for a key"),
        (("get", "join", "x", "none"), "cannot be read"),
        (("put",), "put|get|find NAME FILE"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    pair: tuple[Node, Node], words: tuple[str, ...], said: str
) -> None:
    home = pair[0].home
    (home / "large").write_bytes(b"x" * 65_500)
    (home / "short").write_text("short")
    done = pair[0].verb(*words[:2], *(str(home / word) for word in words[2:]))
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert pair[0].gateway.values == {}


# --- how it comes there -------------------------------------------------------------------------


def test_the_config_drive_has_no_secret_and_the_unit_starts_it(tmp_path: Path) -> None:
    shell, parts = on_node.member("https://192.0.2.1", TOKEN, "PEM", "c1", "n1", [step("a", ":")])
    assert TOKEN not in shell
    assert [part.path for part in parts if TOKEN.encode() in part.content] == [
        "/etc/seed-member/member.json"
    ]
    assert all(part.mode == 0o600 for part in parts if TOKEN.encode() in part.content)
    bin_, log = tmp_path / "bin", tmp_path / "log"
    bin_.mkdir()
    (bin_ / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    (bin_ / "systemctl").chmod(0o755)
    moved = shell.replace("/etc/systemd/system", str(tmp_path))
    subprocess.run(
        ["/bin/sh", "-euc", moved], env={"PATH": f"{bin_}:/bin:/usr/bin"}, timeout=10, check=True
    )
    assert log.read_text().splitlines() == [
        "enable --quiet seed-member.service", "start --no-block seed-member.service",
    ]  # fmt: skip
    unit = (tmp_path / "seed-member.service").read_text()
    assert "Restart=always" in unit
    assert f"python3 {parts[0].path}\n" in unit


def test_a_cluster_is_tried_once_by_whoever_has_something_to_say(
    node: Node, up: Gateway, tmp_path: Path
) -> None:
    """Who says nothing is asked again; other orders are followed meanwhile."""
    trace, leads, go = (tmp_path / name for name in ("trace", "leads", "go"))
    shell = (
        f"echo $1 >>{trace}; test -e {leads} || exit 0; until test -e {go}; do sleep .05; done; "
        f"""echo '{{"pods": ["ok", "{TOKEN}"]}}'"""
    )
    changes = Changes(
        drain=[for_another("drain", tmp_path / "other")], tries=["/bin/sh", "-c", shell, "sh"]
    )
    (tmp_path / "other").mkdir()
    node.has(step("one", ":"), changes=changes)
    up.orders = orders(check="7; rm -rf /")
    with node.running():
        soon(node.done)
        up.orders = orders(check=7)
        soon(lambda: len(notes(trace)) > 2)
        assert up.said("try 7") == []
        leads.touch()
        asked = len(notes(trace))
        soon(lambda: len(notes(trace)) > asked)
        up.orders = orders(check=8, drain=["web-worker-3"])  # two at once take from each other
        soon(lambda: up.said("drain web-worker-3") == ["done"])
        assert set(notes(trace)) == {"7"}
        go.touch()
        soon(lambda: up.said("try 8") == ["done"])
    assert up.said("try 7") == ["done"]
    assert set(notes(trace)) == {"7", "8"}
    (report,) = [one for one in up.reports if one["step"] == "try 7"]
    assert json.loads(report["detail"]) == {"pods": ["ok", "[secret]"]}


def test_a_try_that_cannot_be_done_is_told(node: Node, up: Gateway, tmp_path: Path) -> None:
    node.has(step("one", ":"), changes=Changes(tries=["/bin/sh", "-c", "echo no docker; exit 3"]))
    up.orders = orders(check=8)
    with node.running():
        soon(lambda: up.said("try 8") == ["failed"])
    (report,) = [one for one in up.reports if one["step"] == "try 8"]
    assert report["detail"] == "it ended with 3: no docker"
