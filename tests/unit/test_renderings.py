"""What other tools read of a hand-out: golden files, and what liars among servers cannot do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from provisioning import handout, renderings
from provisioning.handout import HandOut
from provisioning.models import Claim
from provisioning.store import Store
from tests.fakes.claims import KEYS, NETWORKS, THEN, an_active_claim
from tests.fakes.store import new_store

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "handout"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


@pytest.fixture
def handed(store: Store) -> HandOut:
    claim = an_active_claim(store, ends_at=THEN.replace(month=12))
    with store.read() as session:
        return handout.of_claim(session, session.get_one(Claim, claim), "debian", NETWORKS)


def changed(handed: HandOut, **facts: Any) -> HandOut:
    """Its first node alone, and otherwise."""
    return handed.model_copy(update={"nodes": [handed.nodes[0].model_copy(update=facts)]})


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


@pytest.mark.parametrize(
    ("name", "render"),
    [
        ("known_hosts", renderings.known_hosts),
        ("ssh_config", renderings.ssh_config),
        ("inventory.json", lambda h: as_json(renderings.inventory([h]))),
        (
            "targets.json",
            lambda h: as_json([t.model_dump() for t in renderings.targets([h], 9100)]),
        ),
    ],
)
def test_what_is_rendered(name: str, render: Any, handed: HandOut) -> None:
    assert render(handed) == (GOLDEN / name).read_text()


@pytest.mark.parametrize(
    "key",
    [
        f"@cert-authority * {KEYS[0]}",
        f"@revoked {KEYS[0]}",
        f"{KEYS[0]} me\n* {KEYS[1]}",
        f"{KEYS[0]}\r",
        f"{KEYS[0]} a b",
        f" {KEYS[0]}",
        f'command="x" {KEYS[0]}',
        "ssh-ed25519 AAAA",
        "ssh-ed25519",
        KEYS[0].replace("ssh-ed25519 ", "ssh-rsa "),
        KEYS[0].replace(" ", "\t"),
        f"ssh-foo {KEYS[0].split()[1]}",
        f"{KEYS[0][:-2]}",
        KEYS[0].replace("AAAAC3", "AAAA,*!C3"),
        f"{KEYS[0]}AAAA",
        "",
    ],
    ids=repr,
)
def test_only_a_well_formed_key_becomes_a_line(key: str, handed: HandOut) -> None:
    assert renderings.host_key(key) == ""
    assert renderings.known_hosts(changed(handed, host_keys=[key])) == ""
    mixed = renderings.known_hosts(changed(handed, host_keys=[key, KEYS[0]]))
    assert mixed == f"172.22.0.10,web-0 {KEYS[0]}\n"


def test_every_kind_of_host_key_that_sshd_makes_passes() -> None:
    made = (
        rsa.generate_private_key(65537, 2048).public_key(),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ec.generate_private_key(ec.SECP521R1()).public_key(),
    )
    lines = [key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() for key in made]
    assert [renderings.host_key(f"{line} root@web") for line in lines] == lines


@pytest.mark.parametrize(
    "name", ["a\nb", "a b", "*", "-oProxyCommand=x", "a,b", "", "a#", "\u00e4", "x" * 254, "@a"]
)
def test_a_name_that_is_more_than_a_name_stands_nowhere(name: str, handed: HandOut) -> None:
    odd = changed(handed, name=name)
    assert renderings.ssh_config(odd) == ""
    assert renderings.known_hosts(odd) == f"172.22.0.10 {KEYS[1]}\n"
    assert renderings.inventory([odd])["baremetal"] == {"hosts": []}
    assert renderings.targets([odd], 9100) == []


@pytest.mark.parametrize("address", ["", "1.2.3.4 -o", "web\nProxyCommand x", "999.1.1.1"])
def test_an_address_that_is_none_stands_nowhere(address: str, handed: HandOut) -> None:
    odd = changed(handed, address=address)
    assert renderings.ssh_config(odd) == ""
    assert renderings.known_hosts(odd) == f"web-0 {KEYS[1]}\n"
    assert renderings.targets([odd], 9100) == []
    assert "ansible_host" not in renderings.inventory([odd])["_meta"]["hostvars"]["web-0"]


def test_a_login_that_is_none_is_left_out(handed: HandOut) -> None:
    assert "User" not in renderings.ssh_config(changed(handed, ssh_user="a\n  ProxyCommand x",
                                                       host_keys=[]))  # fmt: skip


def test_no_variable_is_a_template(handed: HandOut) -> None:
    nasty = "{{ lookup('pipe', 'id') }}{% raw %}{# x #}{{{"
    nic = handed.nodes[0].nics[0].model_copy(update={"name": nasty})
    odd = changed(handed, nics=[nic], labels={nasty: nasty}, traits=[nasty], cloud_init=nasty)
    text = json.dumps(renderings.inventory([odd]))
    assert "lookup" in text
    assert not re.search(r"\{[{%#]", text.replace('": {"', "").replace("{}", ""))


def test_groups_have_names_that_ansible_takes(handed: HandOut) -> None:
    odd = changed(handed, labels={"a.b/c": "x y"}, rack="r-3", resource_class="gpu.large")
    groups = set(renderings.inventory([odd])) - {"_meta"}
    assert groups == {
        "baremetal", "project_default", "claim_web", "class_gpu_large", "label_a_b_c_x_y",
        "rack_r_3",
    }  # fmt: skip


def test_two_hosts_of_one_name_stay_two(handed: HandOut) -> None:
    nodes = [n.model_copy(update={"project": "other"}) for n in handed.nodes[:1]]
    other = HandOut(claim="web", project="other", nodes=nodes)
    shown = renderings.inventory([handed, other])
    assert shown["baremetal"]["hosts"] == ["web-0.web.default", "web-0.web.other", "web-1"]
    assert shown["claim_web_other"]["hosts"] == ["web-0.web.other"], "nobody acts on both unawares"
    assert "claim_web" not in shown


def test_targets_of_ipv6_stand_in_brackets(handed: HandOut) -> None:
    (target,) = renderings.targets([changed(handed, address="2001:db8::1")], 443)
    assert target.targets == ["[2001:db8::1]:443"]
