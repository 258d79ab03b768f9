"""What is taken of the Kolla-Ansible that an operator installed, as it is when a run begins.

An environment ENV has kolla-ansible, ansible and ansible-runner; the project is
ENV/share/kolla-ansible, laid out as its package does. The operator's own variables, which outweigh
Kolla's and not Seed's, are ENV/etc/kolla/globals.d/*.yml; their files for services, as Kolla's
node_custom_config has them, ENV/etc/kolla/config.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from provisioning.errors import SeedError
from provisioning.installers import ROLES, OvercloudFacts
from provisioning.installers._kolla_tree import dump
from provisioning.kinds import Fault, part
from provisioning.targets import PartSpec

MULTINODE: Final = "ansible/inventory/multinode"
TEMPLATE: Final = "etc_examples/kolla/passwords.yml"
PLAYBOOKS: Final = ("ansible/kolla-host.yml", "ansible/site.yml", "ansible/post-deploy.yml")
FILLED: Final = (*ROLES, "deployment")
"""Groups of `multinode` that people fill; all its others are made of these."""
SECTION: Final = re.compile(r"\[([A-Za-z0-9_-]+)(:children|:vars)?\]")
RIGHT: Final = "Install kolla-ansible 22 there: its pip install 'kolla-ansible==22.*'."
BY_COLLECTION: Final = "bootstrap-servers"
"""The one stage that needs openstack.kolla (ansible/kolla-host.yml)."""
COLLECTION: Final = "ansible_collections/openstack/kolla/roles/baremetal"
BEGINNING: Final[dict[str, Any]] = {
    "create_kolla_user": False,
    "virtualenv": "/opt/kolla-ansible",
}
"""Of openstack.kolla's role on nodes, unless the operator says otherwise: no more login with sudo;
and podman's Python bindings by a virtualenv that sees the image's own, where the role would add an
apt repository of others (doc/source/reference/deployment-and-bootstrapping/bootstrap-servers.rst;
its roles/podman_sdk/tasks/install.yml)."""


class OddProject(SeedError):
    code, status = "kolla-project-is-odd", 503


def groups(shipped: str) -> str:
    """The shipped inventory without the hosts, and the variables of these, that are its examples.

    The six groups stay, empty: an INI inventory refuses children of groups that it does not have.
    """
    kept: list[str] = []
    section, kind, seen = "", "", set[str]()
    for line in shipped.splitlines():
        told = line.partition("#")[0].strip()
        if found := SECTION.fullmatch(told):
            section, kind = found[1], found[2] or ""
            seen.add(section + kind)
            kept.append(told)
        elif told and kind:
            kept.append(told)
        elif told and section not in FILLED:
            raise OddProject(f"{MULTINODE} has hosts in the group {section!r}", RIGHT)
    if missing := [name for name in FILLED if name not in seen]:
        raise OddProject(f"{MULTINODE} has no group {', '.join(missing)}", RIGHT)
    return "\n".join(kept) + "\n"


def environment(project: Path) -> Path:
    return project.parent.parent


def prepare(project: Path) -> list[PartSpec]:
    """inventory/multinode: the groups. kolla/operator.yml: the operator's variables.
    env/envvars: where Ansible finds collections, beside those that ansible itself has."""
    env = environment(project)
    variables = _operators(env / "etc" / "kolla" / "globals.d")
    custom = env / "etc" / "kolla" / "config"
    if custom.is_dir():
        variables["node_custom_config"] = str(custom)
    variables_of_run = {
        "ANSIBLE_COLLECTIONS_PATH": str(env / "collections"),
        "ANSIBLE_PIPELINING": "True",
    }
    texts = {
        "inventory/multinode": groups((project / MULTINODE).read_text()),
        "kolla/operator.yml": dump(variables),
        "env/envvars": dump(variables_of_run),
    }
    return [part(path, text, 0o600) for path, text in texts.items()]


def _operators(folder: Path) -> dict[str, Any]:
    """Of files in the order of their names, as the CLI has them."""
    told: dict[str, Any] = {**BEGINNING}
    for path in sorted(folder.glob("*.yml")):
        read = yaml.safe_load(path.read_text()) or {}
        if not isinstance(read, dict):
            remedy = "Write NAME: VALUE there, as Kolla-Ansible's globals.yml has them."
            raise OddProject(f"{path} has no variables", remedy)
        told |= read
    return told


def lacks(project: Path, stage: str = "") -> str:
    env = environment(project)
    wanted = [project / name for name in (MULTINODE, TEMPLATE, *PLAYBOOKS)]
    wanted.append(env / "bin" / "kolla-genpwd")
    if missing := next((path for path in wanted if not path.is_file()), None):
        return f"{missing} is not there: {env}/bin/pip install -r locks/kolla-ansible.txt"
    if stage in ("", BY_COLLECTION) and not _has_collection(env):
        return (
            f"the collection openstack.kolla is not in {env}/collections, and without it"
            f" {BY_COLLECTION} cannot run: {env}/bin/ansible-galaxy collection install"
            f" -r {project}/requirements.yml -p {env}/collections"
        )
    return ""


def _has_collection(env: Path) -> bool:
    """In the folder that runs are told, or among those that ansible's own package brings."""
    places = [env / "collections", *env.glob("lib/python3.*/site-packages")]
    return any((place / COLLECTION).is_dir() for place in places)


def version(project: Path) -> str:
    """Of the installed package, e.g. "22.2.0"; empty: nothing says so."""
    found = environment(project).glob("lib/python3.*/site-packages/kolla_ansible-*.dist-info")
    return next((path.name.split("-")[1].removesuffix(".dist") for path in found), "")


def release_of(version: str) -> str:
    """Of OpenStack, that this version of Kolla-Ansible deploys: "22.2.0" -> "2026.1".

    One in April, one in October, since 18 was 2024.1 (releases.openstack.org); empty: it is older,
    or no version.
    """
    major = int(found[0]) if (found := re.match(r"[0-9]+", version)) else 0
    return f"{2024 + (major - 18) // 2}.{1 + major % 2}" if major >= 18 else ""


def misfits(facts: OvercloudFacts, project: Path, wanted: str) -> list[Fault]:
    """wanted: the release that the tree is written for."""
    return [*_release(facts, project, wanted), *_cinder(facts, project), *_ironic(facts, project)]


def _release(facts: OvercloudFacts, project: Path, wanted: str) -> Iterator[Fault]:
    told = version(project)
    has = release_of(told)
    if has == wanted and facts.release in ("", has):
        return
    says = f"the Kolla-Ansible in {environment(project)} is {told or 'of no known version'}"
    if has:
        says += f", for OpenStack {has}"
    if has == wanted:
        remedy = f'Take release: "{has}", or leave it out.'
        yield Fault("release", f"{says}, not {facts.release}", remedy)
        return
    major = 18 + (int(wanted[:4]) - 2024) * 2 + int(wanted[-1]) - 1
    remedy = f"{environment(project)}/bin/pip install 'kolla-ansible=={major}.*'"
    yield Fault("release", f"{says}; Seed's files are for {wanted}", remedy)


def _cinder(facts: OvercloudFacts, project: Path) -> Iterator[Fault]:
    """Its backends that need no more than a name are services; others are the operator's."""
    folder = environment(project) / "etc" / "kolla" / "globals.d"
    named = {f"enable_{name}" for name in facts.services} | {*_operators(folder)}
    if "cinder" in facts.services and not any("cinder_backend_" in name for name in named):
        remedy = f"Add cinder_backend_lvm to services, or a backend's variables to {folder}."
        yield Fault("services", "cinder has no backend", remedy)


def _ironic(facts: OvercloudFacts, project: Path) -> Iterator[Fault]:
    folder = environment(project) / "etc" / "kolla" / "config" / "ironic"
    names = ("ironic-agent.kernel", "ironic-agent.initramfs")
    missing = [name for name in names if not (folder / name).is_file()]
    if "ironic" in facts.services and missing:
        says = f"ironic has no {' and no '.join(missing)} to boot servers with"
        yield Fault("services", says, f"Put a ramdisk with ironic-python-agent into {folder}.")
