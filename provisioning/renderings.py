"""What other tools read, rendered from hand-outs: pure functions, no I/O.

Names, keys and parts are told by servers, and some servers lie. What becomes a word of a line is
checked first, and a word that could be more than one leaves its line out. What becomes a variable
of Ansible's can be no template.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import BaseModel

from provisioning.handout import HandOut, HandOutNode

KEY_TYPES: Final = frozenset(
    {"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"}
)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_NOT_IN_GROUPS = re.compile(r"[^A-Za-z0-9_]")
_TEMPLATE = re.compile(r"\{(?=[{%#])")


class Target(BaseModel):
    """One entry of Prometheus' HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]


# --- OpenSSH --------------------------------------------------------------------------------------


def known_hosts(handout: HandOut) -> str:
    """Lines of OpenSSH's known_hosts (sshd(8)), by address and by host name."""
    return "".join(
        f"{','.join(names)} {key}\n"
        for node in handout.nodes
        if (names := [word for word in (_address(node), _host(node.name)) if word])
        for key in map(host_key, node.host_keys)
        if key
    )


def ssh_config(handout: HandOut) -> str:
    """One Host block of ssh_config(5) per node; what is not known is left out."""
    return "\n".join(
        _host_block(node, handout.claim)
        for node in handout.nodes
        if _host(node.name) and _address(node)
    )


def _host_block(node: HandOutNode, claim: str) -> str:
    lines = [f"Host {node.name}", f"    HostName {_address(node)}"]
    if _USER.fullmatch(node.ssh_user):
        lines.append(f"    User {node.ssh_user}")
    lines.append(f"    HostKeyAlias {node.name}")
    if any(map(host_key, node.host_keys)):
        files = f"~/.ssh/seed-{claim}.known_hosts ~/.ssh/known_hosts" if _host(claim) else ""
        lines += [f"    UserKnownHostsFile {files}"] if files else []
        lines.append("    StrictHostKeyChecking yes")
    return "".join(f"{line}\n" for line in lines)


@lru_cache(8192)  # the same keys are shown at each look
def host_key(line: str) -> str:
    """Type and key of one OpenSSH public key, without its comment; empty if it is anything else."""
    words = line.split(" ")
    if len(words) not in (2, 3) or words[0] not in KEY_TYPES or not line.isprintable():
        return ""
    plain = " ".join(words[:2])
    try:
        base64.b64decode(words[1], validate=True)  # the next skips what is not base64
        load_ssh_public_key(plain.encode())
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return ""
    return plain


def _host(name: str) -> str:
    return name if _HOST.fullmatch(name) else ""


def _address(node: HandOutNode) -> str:
    try:
        return str(ip_address(node.address))
    except ValueError:
        return ""


# --- Ansible --------------------------------------------------------------------------------------


def inventory(handouts: Iterable[HandOut]) -> dict[str, Any]:
    """The answer of an Ansible inventory program to --list, in the shape of Bifrost's.

    Groups: baremetal (all of them), project_NAME, claim_NAME (claim_NAME_PROJECT where two projects
    have one), class_NAME, rack_NAME, label_KEY_VALUE.
    """
    hosts = named(handouts)
    claims = Counter(claim for claim, _ in {(n.claim, n.project) for n in hosts.values()})
    groups: dict[str, list[str]] = {"baremetal": sorted(hosts)}
    for name, node in hosts.items():
        for group in _groups(node, claims[node.claim] > 1):
            groups.setdefault(group, []).append(name)
    return {
        "_meta": {"hostvars": {name: host_vars(node) for name, node in hosts.items()}},
        **{group: {"hosts": members} for group, members in sorted(groups.items())},
    }


def host_vars(node: HandOutNode) -> dict[str, Any]:
    """One host's variables: Bifrost's names, and all that was handed over below `seed`."""
    root = next((d for d in node.disks if d.role == "root"), None)
    bifrost = {
        "ansible_host": _address(node),
        "ansible_user": node.ssh_user if _USER.fullmatch(node.ssh_user) else "",
        "uuid": str(node.node_uuid),
        "ipv4_address": "" if ":" in node.address else _address(node),
        "nics": [{"mac": nic.mac} for nic in node.nics],
        "properties": {
            "cpu_arch": node.cpu_arch,
            "cpus": node.cpus,
            "ram": node.memory_mib,
            "disk_size": root.size_bytes // 2**30 if root else 0,
        },
    }
    told = {key: value for key, value in bifrost.items() if value != ""}
    plain: dict[str, Any] = _inert(told | {"seed": node.model_dump(mode="json")})
    return plain


def named(handouts: Iterable[HandOut]) -> dict[str, HandOutNode]:
    """Every node by its host name; where several have it, with claim and project behind it."""
    nodes = [node for handout in handouts for node in handout.nodes if _host(node.name)]
    often = Counter(node.name for node in nodes)
    return {
        node.name if often[node.name] == 1 else f"{node.name}.{node.claim}.{node.project}": node
        for node in nodes
    }


def _groups(node: HandOutNode, twice: bool) -> list[str]:
    claim = f"{node.claim}_{node.project}" if twice else node.claim
    labels = (f"label_{key}_{value}" for key, value in sorted(node.labels.items()))
    found = [
        f"project_{node.project}", f"claim_{claim}", f"class_{node.resource_class}", *labels,
    ]  # fmt: skip
    if node.rack:
        found.append(f"rack_{node.rack}")
    return [_NOT_IN_GROUPS.sub("_", group) for group in dict.fromkeys(found)]


def _inert(value: Any) -> Any:  # noqa: ANN401
    """Without the beginnings of Jinja's tags: Ansible runs them, wherever they stand."""
    if isinstance(value, str):
        return _TEMPLATE.sub("(", value)
    if isinstance(value, list):
        return [_inert(part) for part in value]
    if isinstance(value, dict):
        return {_inert(key): _inert(part) for key, part in value.items()}
    return value


# --- Prometheus -----------------------------------------------------------------------------------


def targets(handouts: Sequence[HandOut], port: int) -> list[Target]:
    """HTTP service discovery: one entry per node; `instance` is its host name.

    The labels that begin with __meta_seed_ are there for relabelling, and gone after it.
    """
    return [
        Target(targets=[f"{address}:{port}"], labels={"instance": name} | _labels(node))
        for name, node in named(handouts).items()
        if (address := _bracketed(_address(node)))
    ]


def _bracketed(address: str) -> str:
    return f"[{address}]" if address and isinstance(ip_address(address), IPv6Address) else address


def _labels(node: HandOutNode) -> dict[str, str]:
    told = {
        "claim": node.claim, "project": node.project, "node": node.node_name,
        "uuid": str(node.node_uuid), "class": node.resource_class, "site": node.site,
        "row": node.row, "rack": node.rack, "feed": node.feed,
    }  # fmt: skip
    told |= {f"label_{_NOT_IN_GROUPS.sub('_', key)}": text for key, text in node.labels.items()}
    return {f"__meta_seed_{name}": text for name, text in told.items() if text}
