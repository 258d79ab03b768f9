"""Another machine on the management wire, and people at it who work through nginx and TLS.

What Seed told each of them is kept, to be searched for what it must never tell.
"""

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from api.app import route_table
from seed.host import netns
from tests.fakes.machine import until
from tests.fakes.wire import client_namespace, ip

PREFIX = 24
SAME_FOR_ALL = ("/v1/openapi.json", "/docs", "/docs/{name}")
"""Made of the code alone; its examples have addresses that are the lab's, too."""


@dataclass
class Person:
    """Somebody with a password and a session, or (token_file) with a token.

    said: all that the API and the command line told them.
    """

    name: str
    namespace: str
    server: str
    ca: Path
    home: Path
    token_file: Path | None = None
    said: list[str] = field(default_factory=list)

    def env(self) -> dict[str, str]:
        """No seed.toml: this machine has none."""
        told = {"HOME": str(self.home), "SEED_SERVER": self.server, "SEED_CA": str(self.ca)}
        token = {"SEED_TOKEN_FILE": str(self.token_file)} if self.token_file else {}
        return {"PATH": os.environ["PATH"], "COLUMNS": "160", **told, **token}

    def seed(self, *words: str, code: int = 0, stdin: str = "") -> str:
        """One verb; what it printed. code: how it must end."""
        argv = [*netns.prefix(self.namespace), sys.executable, "-m", "seed", *words]
        done = subprocess.run(
            argv, env=self.env(), input=stdin, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        self.said += [done.stdout, done.stderr]
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout if not code else f"{done.stdout}{done.stderr}"

    def ask(self, *words: str, stdin: str = "") -> Any:
        return json.loads(self.seed(*words, "-o", "json", stdin=stdin))

    @property
    def headers(self) -> dict[str, str]:
        if self.token_file:
            token = self.token_file.read_text().strip()
        else:
            (session,) = (self.home / ".config" / "seed").glob("session-*")
            token = json.loads(session.read_text())["token"]
        return {"Authorization": f"Bearer {token}"}

    @contextmanager
    def http(self) -> Iterator[httpx.Client]:
        """To be used in the namespace."""
        trust = ssl.create_default_context(cafile=str(self.ca))
        with httpx.Client(
            base_url=self.server, verify=trust, timeout=60, headers=self.headers, trust_env=False
        ) as client:
            yield client

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.calls([(method, path, more)])[0]

    def calls(self, asked: Sequence[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """On one connection."""

        def answers() -> list[httpx.Response]:
            with self.http() as client:
                return [client.request(method, path, **more) for method, path, more in asked]

        found = netns.call(self.namespace, answers)
        self.said += [f"{answer.headers}\n{answer.text}" for answer in found]
        return found

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params=params).raise_for_status().json()

    def walk(self, *names: str) -> dict[str, int]:
        """Read whatever route there is, with each of these names in it; path -> status."""
        paths = {
            part
            for method, path in route_table()
            if method == "GET" and path not in SAME_FOR_ALL
            for name in names
            for part in [_filled(path, name)]
        }
        found = self.calls([("GET", path, {}) for path in sorted(paths)])
        return {answer.url.path: answer.status_code for answer in found}


def _filled(path: str, name: str) -> str:
    """/v1/claims/{name} with this name; a second name in one path is a class."""
    before, brace, rest = path.replace("{path:path}", "/v1/nodes/{name}").partition("{")
    if not brace:
        return before
    after = rest.partition("}")[2]
    return f"{before}{name}{_filled(after, 'baremetal')}"


@dataclass
class Desk:
    """home: where its people have their folders."""

    namespace: str
    server: str
    ca: Path
    home: Path

    def person(self, name: str, token_file: Path | None = None) -> Person:
        home = self.home / name
        home.mkdir(mode=0o700, exist_ok=True)
        return Person(name, self.namespace, self.server, self.ca, home, token_file)


@contextmanager
def desk(appliance: str, address: str, server: str, ca: Path, home: Path) -> Iterator[Desk]:
    """A machine with `address` on the bridge mgmt0 of the appliance's namespace."""
    with client_namespace(appliance, f"{appliance}-d", "mgmt0") as namespace:
        ip("-n", namespace, "address", "add", f"{address}/{PREFIX}", "dev", "eth0")
        yield Desk(namespace, server, ca, home)


@dataclass
class Follower:
    """Follows a person's events in a thread, until one of kind `last`.

    After `cut` of them it hangs up, and comes back with Last-Event-ID once it missed some.
    got: (when it came, the event). missed: how many were told after the return.
    """

    person: Person
    cut: int
    last: str
    got: list[tuple[datetime, dict[str, Any]]] = field(default_factory=list)
    missed: int = 0
    failure: BaseException | None = None
    _at: int = -1
    _began: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._began.wait(30), f"no stream: {self.failure}"

    def end(self, seconds: float) -> None:
        self._thread.join(seconds)
        assert self.failure is None, self.failure
        assert not self._thread.is_alive(), f"{self.last} did not come"

    def _run(self) -> None:
        try:
            netns.call(self.person.namespace, self._follow)
        except BaseException as error:
            self.failure = error

    def _follow(self) -> None:
        self._take(self.cut)

        def younger() -> list[Any]:
            return list(self.person.get("/v1/events", after=self._at))

        until(younger, 1200, "an event that is missed")
        self.missed = len(younger())
        self._take(0)

    def _take(self, most: int) -> None:
        """So many events of one stream; 0: up to the last one."""
        resume = {"Last-Event-ID": str(self._at)} if self.got else {}
        with (
            self.person.http() as client,
            client.stream(
                "GET", "/v1/events", headers={"Accept": "text/event-stream", **resume}
            ) as answer,
        ):
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line.startswith("id:"):
                    self._at = int(line[3:])
                    self._began.set()
                elif line.startswith("data:"):
                    event = json.loads(line[5:])
                    self.person.said.append(line)
                    self.got.append((datetime.now(UTC), event))
                    if len(self.got) == most or event["kind"] == self.last:
                        return
