"""The main job, start to end, on the lab's servers: what `make demo` runs.

Every step is a verb of the command line, printed as it is typed, so that a reader can repeat it.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from provisioning.errors import HostError, SeedError
from seed import show
from seed.lab.scenario import Scenario, load

HOME = Path("/var/lib/seed-demo")
SCENARIO = Path("vagrant/lab.yaml")
PHASE_LIMIT = 3000  # seconds; two servers booting under emulation on two busy cores
POLL = 2.0

out = Console(highlight=False, soft_wrap=True)


@dataclass
class Demo:
    """One appliance and one lab below `home`. The namespace is the scenario's.

    settings: of seed.toml, which `seed init` has no option for.
    """

    home: Path
    scenario_file: Path
    cache: Path = Path("/var/cache/seed/images")
    undo_seconds: int = 600
    discovery_ramdisk: bool = False
    settings: Mapping[str, str | int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def scenario(self) -> Scenario:
        return load(self.scenario_file)

    @property
    def namespace(self) -> str:
        return self.scenario.namespace

    @property
    def config(self) -> Path:
        return self.home / "seed.toml"

    @property
    def lab_dir(self) -> Path:
        return self.home / "lab"

    @property
    def key(self) -> Path:
        return self.home / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.home / "known_hosts"

    def env(self) -> dict[str, str]:
        return {**os.environ, "SEED_CONFIG": str(self.config), "COLUMNS": "160"}

    def seed(self, *words: str, stdin: Path | None = None, quiet: bool = False) -> str:
        """Run one verb; its standard output. HostError with the verb's own words if it fails."""
        argv = [sys.executable, "-m", "seed", *words]
        if not quiet:
            redirect = f" < {stdin}" if stdin else ""
            out.print(f"[bold]$ seed {show.cell(shlex.join(words))}{redirect}[/bold]")
        done = subprocess.run(
            argv,
            env=self.env(),
            input=stdin.read_text() if stdin else None,
            stdin=None if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
            timeout=PHASE_LIMIT,
        )
        if done.returncode:
            raise HostError(
                f"`seed {shlex.join(words)}` ended with {done.returncode}: "
                f"{(done.stderr or done.stdout or '').strip()[-800:]}",
                f"SEED_CONFIG={self.config} seed doctor",
            )
        return done.stdout

    def ask(self, *words: str) -> Any:  # noqa: ANN401
        return json.loads(self.seed(*words, "-o", "json", quiet=True))

    def look_at(self, path: str) -> Any:  # noqa: ANN401
        """Ask the API as a verb would; a new process for each look costs a second of a core."""
        socket = f"/run/{self.home.name}/api.sock"
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=socket), base_url="http://seed/v1", timeout=60
        ) as http:
            answer = http.get(path)
        if answer.is_error:
            problem = answer.json()
            raise HostError(str(problem["detail"]), str(problem["remedy"]))
        return answer.json()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        out.print(f"[cyan]== {name}[/cyan]")
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin
        out.print(f"   {name}: {self.seconds[name]:.0f} s")

    # --- steps ------------------------------------------------------------------------------------

    def start(self, *recipes: str) -> None:
        """Lab, appliance and images."""
        self.home.mkdir(mode=0o755, parents=True, exist_ok=True)
        with self.phase("lab"):
            self._lab("up")
        with self.phase("appliance"):
            self.seed(
                "init", "--management", "mgmt0", "--provisioning", "prov0", "--out-of-band", "oob0",
                "--namespace", self.namespace, "--state-dir", str(self.home / "state"),
                "--run-dir", f"/run/{self.home.name}", "--log-dir", str(self.home / "log"),
                "--undo-seconds", str(self.undo_seconds), "--force",
                *(["--discovery-ramdisk"] if self.discovery_ramdisk else []),
            )  # fmt: skip
            self._set()
            out.print(self.seed("up"))
        for recipe in recipes:
            with self.phase(f"image {recipe}"):
                self.seed("image", "build", recipe, "--cache", str(self.cache), "-o", "json")

    def _set(self) -> None:
        text = self.config.read_text()
        for name, value in self.settings.items():
            text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {json.dumps(value)}", text, count=1)
        self.config.write_text(text)

    def find(self) -> None:
        with self.phase("discover"):
            ranges = _bmc_range(self.scenario)
            user = self.scenario.servers[0].bmc.username
            words = ("discover", ranges, "--username", user, "--password-stdin")
            out.print(self.seed(*words, stdin=self.lab_dir / "bmc-password"))

    def take_in(self) -> None:
        """Accept, enroll and inspect."""
        for server in self.scenario.servers:
            words = ("bmc", "accept", str(server.bmc.address), "--name", server.name)
            self.seed(*words)
        with self.phase("inspect"):
            self.follow_nodes("manageable")

    def offer(self) -> None:
        """Clean, and free for claims."""
        names = [s.name for s in self.scenario.servers]
        self.seed("node", "provide", *names, "--yes")
        with self.phase("clean"):
            self.follow_nodes("available")

    def claim(self, name: str = "demo") -> None:
        self.ask_for(name)
        with self.phase("deploy and proof"):
            self.follow_claim(name, "active")

    def make_key(self) -> None:
        if not self.key.exists():
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(self.key)],
                check=True,
                timeout=30,
            )

    def ask_for(self, name: str) -> None:
        self.make_key()
        count = str(len(self.scenario.servers))
        self.seed(
            "claim", "create", name, "--image", "debian", "--count", count,
            "--ssh-key", f"{self.key}.pub",
        )  # fmt: skip

    def end(self) -> None:
        """Everything down; image cache and SSH key stay."""
        if self.config.exists():
            self.seed("down")
        self._lab("down")

    def _lab(self, verb: str) -> None:
        scenario = ("--scenario", str(self.scenario_file), "--state-dir", str(self.lab_dir))
        self.seed("lab", verb, *scenario)

    # --- following --------------------------------------------------------------------------------

    def follow_nodes(self, state: str) -> None:
        from seed.commands.node import reached

        def look() -> tuple[list[str], bool]:
            nodes = self.look_at("/nodes")
            _stop_if_stuck(nodes)
            lines = [f"{n['name']}: {n['detail'] or n['provision_state']}" for n in nodes]
            return lines, all(reached(n, state) for n in nodes)

        _follow(look)

    def follow_claim(self, name: str, state: str) -> None:
        def look() -> tuple[list[str], bool]:
            claim = self.look_at(f"/claims/{name}")
            _stop_if_stuck([claim])
            now = [f"{claim['state']} {part}" for part in claim["detail"].split("; ")]
            return now, claim["state"] == state

        _follow(look)

    # --- what people see at the end ---------------------------------------------------------------

    def ssh_lines(self, name: str = "demo") -> list[str]:
        """One working command per node; writes known_hosts from the nodes' own proofs."""
        claim = self.ask("claim", "show", name)
        nodes = claim["handout"]["nodes"]
        self.known_hosts.write_text(
            "".join(f"{n['address']} {key}\n" for n in nodes for key in n["host_keys"])
        )
        options = f"-i {self.key} -o IdentitiesOnly=yes -o UserKnownHostsFile={self.known_hosts}"
        return [
            f"ip netns exec {self.namespace} ssh {options} {n['ssh_user']}@{n['address']}"
            for n in nodes
        ]

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        rows, headings = [], ["inspect", "clean", "deploy", "first boot"]
        for node in self.ask("node", "list"):
            full = self.ask("node", "show", node["name"])
            took = {p["name"]: f"{p['seconds']:.0f} s" for p in full["phases"]}
            rows.append(
                [
                    node["name"],
                    node["protocol"],
                    node["firmware"],
                    *(took.get(h, "") for h in headings),
                ]
            )
        for heading in ["NODE", "PROTOCOL", "FIRMWARE", *map(str.upper, headings)]:
            table.add_column(heading)
        for row in rows:
            table.add_row(*row)
        return table


def _bmc_range(scenario: Scenario) -> str:
    addresses = [str(s.bmc.address) for s in scenario.servers]
    return f"{addresses[0]}-{addresses[-1]}"


def _stop_if_stuck(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["problem"]:
            raise HostError(f"{row['name']}: {row['problem']}", row["remedy"])


def _follow(look: Callable[[], tuple[list[str], bool]]) -> None:
    """Print each change once, with the seconds since the start, until done."""
    begin = time.monotonic()
    before: list[str] = []
    while True:
        lines, done = look()
        stable = [_without_seconds(line) for line in lines]
        if stable != before:
            for line, old in zip(stable, [*before, *[""] * len(stable)], strict=False):
                if line != old:
                    out.print(f"   {time.monotonic() - begin:5.0f} s  {show.cell(line)}")
            before = stable
        if done:
            return
        if time.monotonic() - begin > PHASE_LIMIT:
            raise HostError(f"no end after {PHASE_LIMIT} s: {'; '.join(lines)}", "seed node list")
        time.sleep(POLL)


def _without_seconds(line: str) -> str:
    return line.split(" for ")[0]


def run(demo: Demo) -> None:
    begin = time.monotonic()
    demo.end()
    for leftover in (demo.home / "state", demo.home / "log"):
        subprocess.run(["rm", "-rf", str(leftover)], check=True, timeout=60)
    demo.start("ramdisk", "debian")
    demo.find()
    demo.take_in()
    demo.offer()
    demo.claim()
    out.print()
    out.print(demo.table())
    memory = sum(s["memory_mb"] for s in demo.ask("status"))
    out.print(
        f"\nall in {time.monotonic() - begin:.0f} s; the appliance uses {memory:.0f} MB (PSS)"
    )
    out.print(f"To use it: export SEED_CONFIG={demo.config}\n")
    for line in demo.ssh_lines():
        sys.stdout.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m seed.lab.demo", description=__doc__)
    parser.add_argument("verb", choices=["run", "down"])
    parser.add_argument("--home", type=Path, default=HOME)
    parser.add_argument("--scenario", type=Path, default=SCENARIO)
    asked = parser.parse_args()
    demo = Demo(asked.home, asked.scenario)
    try:
        run(demo) if asked.verb == "run" else demo.end()
    except SeedError as err:
        sys.stderr.write(f"error: {err}\n  try: {err.remedy}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
