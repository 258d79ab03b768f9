"""`seed claim ...` and `seed inventory` as people type them, by HTTP, on 80 columns."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer.main
from sqlmodel import select
from typer.testing import CliRunner

from api.app import create_app
from api.claim_ask import ClaimAsk
from api.parts import Door, Parts
from api.roles import Role
from provisioning.models import Claim, now
from provisioning.states import ClaimState, IfFull, Wanted
from seed.cli import app
from seed.commands.wishes import Domain, Together, wish
from tests.fakes.api import a_token, empty_ironic, ironic_double, some_parts
from tests.fakes.claims import KEYS, NETWORKS, SPACE, an_active_claim
from tests.fakes.serving import api_on_a_port


@dataclass
class Desk:
    folder: Path
    parts: Parts
    env: dict[str, str]

    def seed(self, *words: str) -> tuple[int, str]:
        """Exit code, and all that was printed."""
        done = CliRunner().invoke(app, words, env=self.env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    def said(self, *words: str) -> str:
        code, text = self.seed(*words)
        assert code == 0, text
        return text

    def claim(self, name: str = "web") -> Claim:
        with self.parts.store.read() as session:
            return session.exec(select(Claim).where(Claim.name == name)).one()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    base = tmp_path_factory.mktemp("desk")
    with ironic_double() as ironic:
        ironic.answer = empty_ironic(ironic)
        parts = replace(some_parts(base, ironic.url), networks=NETWORKS)
        an_image(parts)
        an_active_claim(parts.store)
        an_active_claim(parts.store, "theirs", 1, project="other")
        (base / "token").write_text(a_token(parts, "me", Role.CLAIMER))
        (base / "key.pub").write_text(f"{KEYS[0]} me\n")
        with api_on_a_port(create_app(parts, Door.WEB)) as url:
            yield Desk(
                base,
                parts,
                {
                    "SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "NO_COLOR": "1",
                    "SEED_TOKEN_FILE": str(base / "token"), "COLUMNS": "80", "TZ": "UTC",
                },
            )  # fmt: skip


def an_image(parts: Parts) -> None:
    from tests.fakes.crashing import an_image as made

    folder = parts.image_dir / "debian" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(made("debian").model_dump_json())
    (parts.image_dir / "debian" / "current").symlink_to("1")


def fits(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 80


def test_a_claim_and_where_its_servers_are(desk: Desk) -> None:
    text = desk.said("claim", "show", "web")
    assert "web-0  debian@172.22.0.10  on sn-1, r4u17" in text
    assert fits(text)
    assert fits(desk.said("claim", "list"))
    assert "theirs" not in desk.said("claim", "list")


def test_a_long_name_hides_no_column(desk: Desk) -> None:
    name = "a-rather-long-name-of-a-claim-with-much-to-say-about-it"
    an_active_claim(desk.parts.store, name, 1, resource_class="gpu-large-nvme", project="long",
                    ends_at=now() + timedelta(days=3, hours=1))  # fmt: skip
    everybody = desk.folder / "viewer"
    everybody.write_text(a_token(desk.parts, "viewer", Role.VIEWER))
    text = replace(desk, env=desk.env | {"SEED_TOKEN_FILE": str(everybody)}).said("claim", "list")
    assert fits(text)
    heads, *rows = text.splitlines()
    assert heads.split() == ["CLAIM", "PROJECT", "STATE", "NODES", "CLASS", "IMAGE", "ENDS"]
    assert any("gpu-large-nvme" in row and "in 3 d" in row for row in rows), text


def test_who_sees_all_may_look_at_one_project(desk: Desk) -> None:
    everybody = desk.folder / "all"
    everybody.write_text(a_token(desk.parts, "all", Role.VIEWER, project="other"))
    all_of_them = replace(desk, env=desk.env | {"SEED_TOKEN_FILE": str(everybody)})
    assert {"web", "theirs"} <= set(all_of_them.said("claim", "list").split())
    for env, words in (({}, ("--project", "other")), ({"SEED_PROJECT": "other"}, ())):
        one = replace(all_of_them, env=all_of_them.env | env)
        listed = one.said(*words, "claim", "list").split()
        assert ("theirs" in listed, "web" in listed) == (True, False)
        inventory = one.said(*words, "inventory", "--list")
        assert ("theirs" in inventory, "web-0" in inventory) == (True, False)


def test_who_may_end_all_claims_names_a_project_and_no_other_claim_is_found(desk: Desk) -> None:
    everybody = desk.folder / "all"
    secret = a_token(desk.parts, "mighty", Role.VIEWER, Role.DESTROYER, project="other")
    everybody.write_text(secret)
    env = desk.env | {"SEED_TOKEN_FILE": str(everybody)}
    whoever, named = replace(desk, env=env), replace(desk, env=env | {"SEED_PROJECT": "other"})
    for words in (("show", "web"), ("ssh-config", "web"), ("release", "web", "--yes")):
        code, text = named.seed("claim", *words)
        assert (code, "there is no claim 'web'" in text) == (1, True), text
    assert "theirs" in named.said("claim", "show", "theirs")
    assert desk.claim().wanted is Wanted.ACTIVE
    assert "web" in whoever.said("claim", "show", "web")


def test_renew_protect_and_back(desk: Desk) -> None:
    text = desk.said("claim", "renew", "web", "--for", "3d")
    end = desk.claim().lease_end
    assert end is not None
    assert timedelta(days=2, hours=23) < end - now() < timedelta(days=3, minutes=1)
    assert f"{end:%Y-%m-%d %H:%M} UTC" in " ".join(text.split())
    assert "in 2 d" in desk.said("claim", "list")
    desk.said("claim", "renew", "web", "--ends", f"{now() + timedelta(days=9):%Y-%m-%d} 08:00")
    end = desk.claim().lease_end
    assert end is not None
    assert (end.hour, end.minute) == (8, 0)
    assert "protected" in desk.said("claim", "protect", "web", "--why", "in use")
    assert desk.claim().protected
    code, text = desk.seed("claim", "release", "web", "--yes")
    assert code == 1
    assert "claim unprotect web" in text
    desk.said("claim", "unprotect", "web")
    assert not desk.claim().protected


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("claim", "renew", "web"), 2, "neither or both"),
        (("claim", "renew", "web", "--for", "soon"), 1, "'soon' is no length of time"),
        (("claim", "renew", "web", "--ends", "1999-01-01"), 1, "error:"),
        (("claim", "show", "theirs"), 1, "there is no claim 'theirs'"),
        (("claim", "show", "../x"), 1, "is no name or address"),
        (("claim", "prioritize", "web", "50"), 1, "it takes the role operator"),
        (("claim", "prioritize", "web", "101"), 2, "less than or equal to 100"),
        (("inventory",), 2, "neither or both of --list and --host"),
        (("inventory", "--list", "--host", "web-0"), 2, "neither or both"),
        (("inventory", "--host", "nobody"), 1, "no host 'nobody' is handed out"),
        (("inventory", "--list", "--project", "other"), 1, "sees the project default only"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_sentence(
    words: tuple[str, ...], code: int, said: str, desk: Desk
) -> None:
    found, text = desk.seed(*words)
    assert (found, said in " ".join(text.split())) == (code, True), text


def wished(desk: Desk, *more: str) -> tuple[int, str]:
    key = str(desk.folder / "key.pub")
    return desk.seed("claim", "create", "big", "--image", "debian", "--ssh-key", key, *more)


def test_every_wish_is_sent_as_the_api_reads_it(tmp_path: Path) -> None:
    """Each field of a claim but those that the verb itself knows, and nothing else."""
    secret = tmp_path / "key"
    secret.write_bytes(b"\xff")
    sent = wish(
        image="debian", count=3, resource_class="gpu", trait=["CUSTOM_A", "CUSTOM_B"],
        label=["role=db", "tier=x=y"], rack=["r3"], node=["a", "b", "c"], cpus=64, memory=256,
        disk=900, spread=Domain.FEED, pack=Together.RACK, root_device=["size=>= 900"],
        layout="two-wires", data_disk=["osd,size=>= 900,count=2", "keep,wwn=0x5000,keep"],
        root_raid=1, kernel_arg=["hugepages=64", "quiet"],
        hostnames="db-{n:02}", protected=True, queue=True, priority=7, starts="2099-01-01 08:00",
        ends="2099-02-01 08:00", lasts="2w",
        secret_file=[f"/etc/a,0640,svc:svc={secret}", f"/etc/b={secret}"],
    )  # fmt: skip
    asked = ClaimAsk.model_validate({**sent, "name": "big"})
    assert set(sent) == set(ClaimAsk.model_fields) - {"name", "ssh_keys", "user_data"}
    assert [(f.path, f.mode, f.owner, f.raw()) for f in asked.secret_files] == [
        ("/etc/a", "0640", "svc:svc", b"\xff"), ("/etc/b", "0600", "", b"\xff"),
    ]  # fmt: skip
    assert asked.labels == {"role": "db", "tier": "x=y"}
    assert asked.root_device == {"size": ">= 900"}
    assert asked.disks == [
        {"role": "osd", "size": ">= 900", "count": 2},
        {"role": "keep", "wwn": "0x5000", "keep": True},
    ]
    assert (asked.layout, asked.root_raid) == ("two-wires", 1)
    assert asked.kernel_args == ["hugepages=64", "quiet"]
    assert (asked.memory_gib, asked.disk_gib, asked.if_full) == (256, 900, IfFull.QUEUE)
    assert asked.lease_seconds == 14 * 86400
    assert asked.starts_at is not None
    assert asked.starts_at.tzinfo is not None
    assert wish(image="debian") == {"image": "debian"}, "what was not asked for is not sent"


def test_a_claims_drives_are_shown_without_their_tokens(desk: Desk) -> None:
    code, text = desk.seed("claim", "preview", "web")
    assert "user_data:\n#cloud-config" in text
    assert max(map(len, text.partition("---")[0].splitlines()[1:4])) <= 80
    told = json.loads(desk.seed("claim", "preview", "web", "-o", "json")[1])
    assert code == int(any(node["faults"] for node in told["nodes"]))
    assert told["count"] == len(told["nodes"]) > 0
    assert '"token": "<one-time>"' in told["nodes"][0]["vendor_data"][-1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "neither a claim nor --image"),
        (("web", "--count", "2"), 2, "options, but no --image"),
        (("big", "--image", "debian", "--secret-file", "x"), 2, "is not PATH=FILE"),
        (("big", "--image", "debian", "--secret-file", "/etc/x=/no/such"), 2, "cannot read"),
        (("theirs",), 1, "there is no claim 'theirs'"),
    ],
    ids=str,
)
def test_a_preview_that_cannot_be_is_one_sentence(
    words: tuple[str, ...], code: int, said: str, desk: Desk
) -> None:
    found, text = desk.seed("claim", "preview", *words)
    assert (found, said in " ".join(text.split())) == (code, True), text


def test_user_data_that_is_none_is_refused_before_anything_is_held(desk: Desk) -> None:
    text = desk.folder / "user-data"
    text.write_text("packages: [jq]\n")
    code, said = desk.seed("claim", "preview", "big", "--image", "debian", "--user-data", str(text))
    assert (code, "the first line must be #cloud-config" in " ".join(said.split())) == (1, True)


def test_create_and_explain_have_the_same_options() -> None:
    verbs: Any = typer.main.get_command(app)
    create, explain = (
        {p.name for p in verbs.commands["claim"].commands[verb].params}
        for verb in ("create", "explain")
    )
    assert create - explain == {"wait", "timeout"}
    assert explain - create == set()


def test_a_claim_that_cannot_be_had_says_why_per_node(desk: Desk) -> None:
    code, text = wished(desk, "--count", "2")
    assert code == 1
    plain = " ".join(text.split())
    assert "error: claim big wants 2 of class baremetal" in plain
    assert "sn-1: " in plain
    assert "sn-3" not in plain, "another project's"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--label", "role"), "--label 'role' is not KEY=VALUE"),
        (("--label", "a=1", "--label", "a=2"), "--label a is given twice"),
        (("--data-disk", "osd,twice"), "'twice' is not KEY=VALUE, given once"),
        (("--data-disk", "osd,size=1,size=2"), "'size=2' is not KEY=VALUE, given once"),
        (("--root-device", "=x"), "--root-device '=x' is not KEY=VALUE"),
        (("--spread", "room"), "room"),
        (("--user-data", "/nowhere/at/all"), "cannot read /nowhere/at/all"),
        (("--count", "0"), "greater than or equal to 1"),
    ],
    ids=str,
)
def test_a_wish_that_cannot_be_read_is_usage(more: tuple[str, ...], said: str, desk: Desk) -> None:
    code, text = wished(desk, *more)
    assert (code, said in " ".join(text.split())) == (2, True), text


def test_explain_names_the_rule_per_node_nearest_first(desk: Desk) -> None:
    code, text = desk.seed("claim", "explain", "--image", "debian", "--count", "2")
    assert code == 1, "it cannot be had"
    assert "wants 2 of class baremetal" in " ".join(text.split())
    assert "sn-1" in text
    assert "WHY NOT" in text
    assert "sn-3" not in text, "another project's"
    assert fits("\n".join(text.splitlines()[1:]))


def test_the_inventory_is_ansibles(desk: Desk) -> None:
    told = json.loads(desk.said("inventory", "--list"))
    assert told["claim_web"]["hosts"] == ["web-0", "web-1"]
    host = json.loads(desk.said("inventory", "--host", "web-1"))
    assert host == told["_meta"]["hostvars"]["web-1"]
    assert host["ansible_host"] == "172.22.0.11"


def test_two_lines_make_an_inventory_program(desk: Desk) -> None:
    """As docs/inventory.md has it, run as ansible-inventory -i runs it."""
    program = desk.folder / "seed-inventory"
    python = f"{sys.executable} -m seed.cli"
    program.write_text(f'#!/bin/sh\nexec {python} inventory "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    root = str(Path(__file__).resolve().parents[2])
    env = os.environ | desk.env | {"PYTHONPATH": root}
    done = subprocess.run(
        [str(program), "--list"], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found["_meta"]["hostvars"]) == {"web-0", "web-1"}
    for group, facts in found.items():
        assert group == "_meta" or set(facts) <= {"hosts", "children", "vars"}


def test_known_hosts_are_written_only_when_told_to(desk: Desk) -> None:
    file = desk.folder / "known_hosts"
    printed = desk.said("claim", "known-hosts", "web", "--file", str(file))
    assert printed.startswith(f"172.22.0.10,web-0 {KEYS[1]}\n")
    assert not file.exists()
    file.write_text(f"172.22.0.10 {KEYS[0]}\n")
    text = desk.said("claim", "known-hosts", "web", "--write", "--file", str(file))
    assert "1 stale removed" in " ".join(text.split())
    assert file.read_text() == printed


def test_ssh_reads_the_config(desk: Desk) -> None:
    config = desk.folder / "ssh_config"
    config.write_text(desk.said("claim", "ssh-config", "web"))
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), "web-1"], capture_output=True, text=True, timeout=30
    )
    options = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert (options["hostname"], options["user"]) == ("172.22.0.11", "debian")
    assert options["hostkeyalias"] == "web-1"
    assert options["stricthostkeychecking"] in ("true", "yes")


def test_what_is_over_is_listed_when_asked_for(desk: Desk) -> None:
    with desk.parts.store.write() as session:
        session.add(Claim(id=SPACE, name="old", image="debian", state=ClaimState.RELEASED,
                          ended_at=now()))  # fmt: skip
    assert "old" not in desk.said("claim", "list")
    assert "old" in desk.said("claim", "list", "--ended")
