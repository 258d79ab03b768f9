"""OpenStack by Kolla-Ansible: services in containers, by its own playbooks, as they are shipped.

What its CLI gives ansible-playbook (kolla_ansible/{ansible,cli/commands}.py of 22.2.0) is in a
run's folder: kolla/ is its configuration directory, and nothing lies in /etc/kolla of the Seed
machine. HOME of a run is its folder (provisioning/playbooks.py), so "~" is where Ansible finds the
files of extra variables: ansible-runner has no other word for it. Kolla-Ansible, Ansible and
ansible-runner are brought by the operator, into an environment of their own; nothing of Seed
imports them, and nothing of them is kept here.
"""

from pathlib import Path
from typing import Any, Final

import yaml

from provisioning.installers import (
    FILE,
    OvercloudFacts,
    Program,
    Role,
    Stage,
    _kolla_faults,
    _kolla_project,
    _kolla_tree,
)
from provisioning.installers._kolla_options import RELEASE, SERVICES
from provisioning.installers._kolla_tree import dump
from provisioning.installers._text import url_host
from provisioning.kinds import Fault, _ssh, part
from provisioning.targets import PartSpec

PASSWORDS: Final = "passwords.yml"
CONFIG: Final = "{{ inventory_dir }}/../kolla"
EXTRA: Final = ("operator.yml", "globals.yml", PASSWORDS)
"""In kolla/, as extra variables; of one that two have, the later counts."""
FORKS: Final = 50
"""Hosts at a time at most: each is a process of some 80 MiB, most of it shared."""
IDLE_SECONDS: Final = 3600
"""Pulling an image says nothing until it is there."""
LATER: Final = "# {what} is kept sealed by Seed, and is here only when it runs.\n"


class KollaAnsible:
    name = "kolla-ansible"
    environment = "kolla-ansible"
    roles: tuple[Role, ...] = ("control", "network", "compute", "monitoring")
    services = SERVICES
    programs = (Program(PASSWORDS, _kolla_project.TEMPLATE, ("kolla-genpwd", "--passwords", FILE)),)
    gives = ("kolla/clouds.yaml", "kolla/admin-openrc.sh")

    def faults(self, facts: OvercloudFacts) -> list[Fault]:
        return _kolla_faults.all_of(facts)

    def misfits(self, facts: OvercloudFacts, project: Path) -> list[Fault]:
        return _kolla_project.misfits(facts, project, RELEASE)

    def lacks(self, project: Path, stage: str = "") -> str:
        return _kolla_project.lacks(project, stage)

    def prepare(self, project: Path) -> list[PartSpec]:
        return _kolla_project.prepare(project)

    def secrets(self, facts: OvercloudFacts) -> dict[str, str]:
        """None: "passwords.yml" is a program's, and the SSH key each overcloud's."""
        return {}

    def tree(self, facts: OvercloudFacts, secrets: dict[str, str]) -> list[PartSpec]:
        """Of a run; `prepare` adds what the project has."""
        texts = {
            "inventory/hosts.yaml": dump(_kolla_tree.inventory(facts)),
            "kolla/globals.yml": dump(_kolla_tree.global_variables(facts)),
            f"kolla/{PASSWORDS}": secrets.get(
                PASSWORDS, LATER.format(what="What it says") + "{}\n"
            ),
            "known_hosts": _ssh.known_hosts((n.reached, n.host_keys) for n in facts.nodes),
        }
        if "ssh" in secrets:
            texts[_ssh.KEY] = secrets["ssh"]
        return [part(path, text, 0o600) for path, text in texts.items()]

    def stages(self, facts: OvercloudFacts) -> tuple[Stage, ...]:
        """The CLI's commands, and its extra variables beside those of kolla/. bootstrap-servers has
        no interpreter of its own: the inventory names it."""
        host, site, post = _kolla_project.PLAYBOOKS
        first = _stage(facts, "bootstrap-servers", host, "bootstrap-servers", 2 * 3600)
        return (
            *([first] if facts.options.get("bootstrap_servers", True) else []),
            _stage(facts, "prechecks", site, "precheck", 3600),
            _stage(facts, "pull", site, "pull", 4 * 3600),
            _stage(facts, "deploy", site, "deploy", 4 * 3600),
            _stage(facts, "post-deploy", post, "post-deploy", 1800),
        )

    def check(self, facts: OvercloudFacts) -> Stage | None:
        """None. Its action "check" says whether containers run, not whether their OpenStack works,
        and no task of it prints a result."""
        return None

    def leave(self, facts: OvercloudFacts, names: tuple[str, ...]) -> Stage | None:
        """None. What Kolla-Ansible's documentation (adding-and-removing-hosts.rst) has people do is
        theirs: move instances, routers and networks by OpenStack's API, stop the node's containers,
        deploy the others without it, delete its agents. Its one playbook in that, "stop", would end
        the instances that are still there, and MariaDB's quorum with them."""
        return None

    def clouds(self, facts: OvercloudFacts, secrets: dict[str, str]) -> str:
        """As etc/kolla/clouds.yaml.j2 of its post-deploy has the cloud kolla-admin."""
        told = yaml.safe_load(secrets[PASSWORDS])
        variables = _kolla_tree.global_variables(facts)
        scheme = "https" if variables.get("kolla_enable_tls_external") else "http"
        host = variables.get("kolla_external_fqdn") or facts.vips["external"]
        cloud = {
            "auth": {
                "auth_url": f"{scheme}://{url_host(host)}:5000/v3", "username": "admin",
                "password": str(told["keystone_admin_password"]), "project_name": "admin",
                "user_domain_name": "Default", "project_domain_name": "Default",
            },
            "region_name": "RegionOne", "interface": "public", "identity_api_version": 3,
        }  # fmt: skip
        return dump({"clouds": {facts.name: cloud}})

    def proves(self, options: dict[str, Any]) -> str:
        return ""

    def project(self, runner: Path) -> Path:
        return runner.parent.parent / "share" / "kolla-ansible"


PLUGIN = KollaAnsible()


def _stage(facts: OvercloudFacts, name: str, playbook: str, action: str, seconds: int) -> Stage:
    """env/extravars goes before env/cmdline, and no variable is in both."""
    forks = min(FORKS, max(5, len(facts.nodes) + 1))
    words = [f"--forks {forks}", *(f"-e @~/kolla/{path}" for path in EXTRA)]
    variables: dict[str, Any] = {"kolla_action": action, "CONFIG_DIR": CONFIG}
    settings = {"job_timeout": seconds, "idle_timeout": IDLE_SECONDS}
    texts = {
        "env/extravars": dump(variables),
        "env/cmdline": " ".join(words) + "\n",
        "env/settings": dump(settings),
    }
    also = tuple(part(path, text, 0o600) for path, text in texts.items())
    return Stage(name, playbook, also, seconds)
