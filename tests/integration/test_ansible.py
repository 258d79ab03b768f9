"""Ansible itself reads what is handed out, by the inventory program of docs/inventory.md."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from api.app import create_app
from api.parts import Door
from api.roles import Role
from provisioning.models import Order
from provisioning.tenants import Project
from tests.fakes.api import a_token, some_parts
from tests.fakes.appliance import environments
from tests.fakes.claims import NETWORKS, an_active_claim
from tests.fakes.serving import api_on_a_port

CHECKOUT = Path(__file__).parents[2]
PROGRAM = re.compile(r"^cat >seed-inventory <<'END'\n(.*?)^END$", re.MULTILINE | re.DOTALL)


@dataclass
class Control:
    """Where Ansible runs: another machine, with a claimer's token."""

    folder: Path
    url: str

    def run(self, program: str, *argv: str) -> str:
        """What `program` of Ansible's says. A warning is a failure: Ansible read something else."""
        env = {
            "PATH": f"{self.folder}:{os.environ['PATH']}", "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8", "SEED_SERVER": self.url,
            "SEED_TOKEN_FILE": str(self.folder / "token"),
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true", "ANSIBLE_NOCOLOR": "true",
        }  # fmt: skip
        done = subprocess.run(
            [environments() / "ansible" / "bin" / program, "-i", "./seed-inventory", *argv],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr + done.stdout
        return done.stdout

    def inventory(self, *argv: str) -> Any:
        return json.loads(self.run("ansible-inventory", *argv))


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    parts = replace(some_parts(tmp_path), networks=NETWORKS)
    with parts.store.write() as session:
        session.add(Project(name="other"))
    an_active_claim(parts.store)
    an_active_claim(parts.store, "theirs", 1, project="other")
    with parts.store.write() as session:  # a server that says of itself what Ansible would run
        for order in session.exec(select(Order)):
            proof = json.loads(json.dumps(order.proof))
            proof["disks"][0]["serial"] = "{{ lookup('pipe', 'touch " + str(tmp_path) + "/ran') }}"
            order.proof = proof
    (tmp_path / "token").write_text(a_token(parts, "mine", Role.CLAIMER))
    (found,) = PROGRAM.findall((CHECKOUT / "docs" / "inventory.md").read_text())
    program(tmp_path / "seed-inventory", found)
    command = shlex.join([sys.executable, "-m", "seed"])
    program(
        tmp_path / "seed",
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(CHECKOUT))} exec {command} "$@"\n',
    )
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        yield Control(tmp_path, url)


def test_ansible_reads_groups_and_variables(control: Control) -> None:
    told = control.inventory("--list")
    both = ["web-0", "web-1"]
    assert sorted(told["_meta"]["hostvars"]) == both
    groups = {name: sorted(told[name].get("hosts", [])) for name in told if name != "_meta"}
    assert groups == {
        "all": [], "baremetal": both, "project_default": both, "claim_web": both,
        "class_baremetal": both, "label_role_db": ["web-0"], "rack_r4": ["web-0"],
        "rack_r3": ["web-1"],
    }  # fmt: skip
    one = control.inventory("--host", "web-1")
    assert one == told["_meta"]["hostvars"]["web-1"]
    assert (one["ansible_host"], one["ipv4_address"]) == ("172.22.0.11", "172.22.0.11")
    assert one["properties"] == {"cpu_arch": "x86_64", "cpus": 32, "ram": 65536, "disk_size": 1024}
    assert (one["seed"]["claim"], one["seed"]["rack"]) == ("web", "r3")
    assert "@claim_web:\n  |  |--web-0\n  |  |--web-1\n" in control.run(
        "ansible-inventory", "--graph"
    )


def test_what_a_server_says_of_itself_is_text_and_never_run(control: Control) -> None:
    said = control.run("ansible", "web-0", "-m", "ansible.builtin.debug", "-a", "var=seed")
    assert "lookup('pipe'" in said
    assert not (control.folder / "ran").exists()
