"""TripleO's baremetal_deployment.yaml: what becomes an overcloud, and what is said of the rest."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provisioning.cluster_spec import Group
from provisioning.errors import Invalid
from provisioning.tripleo import MOST_SENTENCES, overcloud

FILE = """
- name: Controller
  count: 3
  hostname_format: '%stackname%-controller-%index%'
  defaults:
    profile: control
    resource_class: big
    image: {href: overcloud-full}
    networks:
    - {network: ctlplane, vif: true}
    - {network: internal_api, subnet: internal_api_subnet}
    - {network: tenant}
    - {network: storage}
    - {network: storage_mgmt}
    - {network: external}
    network_config: {template: templates/bond.j2, default_route_network: [external]}
  instances:
  - {hostname: overcloud-controller-0, name: node00}
  - {hostname: overcloud-controller-1, name: node01, provisioned: false}
  - {hostname: overcloud-controller-2, name: node02}
  - {hostname: overcloud-controller-3, name: node03}
- name: Compute
  count: 10
  defaults: {traits: [CUSTOM_GPU], capabilities: 'boot_mode:uefi,profile:compute'}
  instances: [{name: node04}]
- name: CephStorage
- name: Telemetry
  count: 2
"""


def read(*roles: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return overcloud(yaml.safe_dump([*roles]))


def groups(told: dict[str, Any]) -> dict[str, Any]:
    return {key: told[key] for key in told if key in (
        "control", "network", "compute", "storage", "monitoring")}  # fmt: skip


def test_roles_become_groups() -> None:
    told, _ = overcloud(FILE, "cloud")
    assert told == {
        "name": "cloud", "installer": "kolla-ansible", "release": "", "image": "",
        "networks": {
            "api": "internal_api", "tunnel": "tenant", "storage": "storage",
            "external": "external",
        },
        "vips": {},
        "control": {
            "count": 3, "nodes": ["node00", "node02", "node03"], "labels": {"profile": "control"},
            "resource_class": "big",
        },
        "compute": {"count": 10, "traits": ["CUSTOM_GPU"], "labels": {"profile": "compute"}},
        "storage": {"count": 1},
        "services": [], "options": {},
    }  # fmt: skip
    for group in groups(told).values():
        Group.model_validate(group)


def test_the_rest_is_said_with_what_to_do() -> None:
    _, left = overcloud(FILE)
    assert left == [
        "Controller: hostname_format is left out. Hosts are called OVERCLOUD-GROUP-NUMBER.",
        "Controller: 1 of its instances were to be given back, and are left out. "
        "Nothing is to be done: Seed takes only what it is asked for.",
        "Controller: hostname of single instances is left out. "
        "Hosts are called OVERCLOUD-GROUP-NUMBER.",
        "Controller: its profile became the label profile=control. "
        "Give it to the nodes: `seed node label NODE profile=control`.",
        "Controller: image overcloud-full of TripleO's is left out. "
        "Build one for your installer (`seed image build`) and name it in image.",
        "Network ctlplane, by which TripleO booted nodes, is left out. "
        "Nothing is to be done: Seed has a provisioning network of its own.",
        "networks.api is internal_api, of which only the name is known. "
        "Make internal_api of that range (`seed network put FILE`), or name another there.",
        "Controller: subnet of network internal_api is left out. "
        "A network of Seed's has one subnet for each rack or for all: name it there.",
        "networks.tunnel is tenant, of which only the name is known. "
        "Make tenant of that range (`seed network put FILE`), or name another there.",
        "networks.storage is storage, of which only the name is known. "
        "Make storage of that range (`seed network put FILE`), or name another there.",
        "Network storage_mgmt is left out. "
        "An overcloud of Seed's has api, tunnel, storage and external.",
        "networks.external is external, of which only the name is known. "
        "Make external of that range (`seed network put FILE`), or name another there.",
        "Controller: network_config is left out. "
        "Make a layout of its NICs, bonds and VLANs and name it in the group's layout.",
        "Compute: the list of 1 of its 10 nodes (node04) is left out. "
        "List all 10 in compute.nodes, or label them and ask for labels.",
        "Compute: capability boot_mode:uefi is left out. "
        "Label the nodes that have it, and ask for it in compute.labels.",
        "Compute: its profile became the label profile=compute. "
        "Give it to the nodes: `seed node label NODE profile=compute`.",
        "Telemetry (2 nodes) is left out: what it ran is on Seed's control nodes. "
        "Raise control.count, to an odd number, where one needs the room.",
        "TripleO installed OpenStack itself, which is retired. "
        "installer is kolla-ansible now: change it, and say release and image, as you like.",
        "Virtual addresses are in another file of TripleO's. Put them (`seed network vip NETWORK "
        "NAME ADDRESS`) and name them in vips.internal and vips.external.",
    ]


@pytest.mark.parametrize(
    ("role", "group"),
    [
        ("Controller", "control"), ("ControllerOpenstack", "control"), ("Networker", "network"),
        ("NetworkerSriov", "network"), ("Compute", "compute"), ("ComputeOvsDpdkSriov", "compute"),
        ("DistributedComputeHCI", "compute"), ("HciCephAll", "compute"), ("CephAll", "storage"),
        ("ObjectStorage", "storage"), ("BlockStorage", "storage"),
    ],
)  # fmt: skip
def test_names_of_roles(role: str, group: str) -> None:
    told, left = read({"name": role, "count": 2})
    assert groups(told) == {group: {"count": 2}}
    hci = "HCI" in role or role.startswith("Hci")
    assert any("has Ceph's disks too" in one for one in left) is hci
    assert any(one.startswith("No role became control") for one in left) is (group != "control")


@pytest.mark.parametrize("role", ["Undercloud", "CellController", "Mine"])
def test_a_role_of_nobody_is_a_sentence(role: str) -> None:
    told, left = read({"name": role, "count": 1})
    assert groups(told) == {}
    assert f"{role} (1 node) is left out: it is no role that Seed knows" in left[0]


def test_two_roles_of_one_group_are_added() -> None:
    told, left = read(
        {"name": "Compute", "count": 2, "defaults": {"resource_class": "a"}},
        {"name": "ComputeSriov", "count": 3, "defaults": {"resource_class": "b"},
         "instances": [{"name": f"n{n}"} for n in range(3)]},
    )  # fmt: skip
    assert groups(told) == {"compute": {"count": 5, "resource_class": "a"}}
    assert left[0].startswith("ComputeSriov and Compute are one group, compute, and their resource")
    assert "only one of them names its nodes" in left[1]
    told, _ = read(
        {"name": "Compute", "instances": [{"name": "n1"}]},
        {"name": "ComputeAlt", "instances": [{"name": "n2"}]},
    )
    assert told["compute"] == {"count": 2, "nodes": ["n1", "n2"]}


def test_what_all_instances_say_holds_for_the_group() -> None:
    alike = [{"name": f"n{n}", "resource_class": "big", "swap_size_mb": 64} for n in range(2)]
    told, left = read({"name": "Compute", "count": 2, "instances": alike})
    assert told["compute"] == {"count": 2, "nodes": ["n0", "n1"], "resource_class": "big"}
    assert any("swap_size_mb is left out. Make swap in the image" in one for one in left)
    alike[1]["resource_class"] = "small"
    told, left = read({"name": "Compute", "count": 2, "instances": alike})
    assert "resource_class" not in told["compute"]
    assert any("resource_class of single instances" in one for one in left)


@pytest.mark.parametrize(
    ("defaults", "sentence"),
    [
        ({"managed": False}, "managed is left out. Adopt the servers first"),
        ({"nics": [{"network": "x", "fixed_ip": "192.0.2.1"}]}, "fixed_ip of network x"),
        ({"nics": [{"port": "p"}]}, "port of network ? is left out"),
        ({"mine": 1}, "mine is left out. It is no property that TripleO's own schema knows"),
        ({"resource_class": "a b"}, "resource_class is left out. Letters, digits"),
        ({"profile": ""}, "profile is left out. A label's value"),
        ({"image": {}}, "image ? of TripleO's is left out"),
        ({"capabilities": {"a": "b"}}, "capability a:b is left out"),
    ],
)
def test_each_property_without_a_counterpart(defaults: Any, sentence: str) -> None:
    told, left = read({"name": "Controller", "defaults": defaults})
    assert told["control"] == {"count": 1}
    assert any(sentence in one for one in left)


def test_json_is_read_too() -> None:
    roles = [{"name": "Controller", "count": 3, "instances": [{"name": "a", "provisioned": False}]}]
    told, _ = overcloud(json.dumps(roles))
    assert told["control"] == {"count": 3}


def test_there_is_an_end_to_sentences() -> None:
    many = {f"key{n}": 1 for n in range(1000)}
    _, left = read({"name": "Controller", "defaults": many})
    assert len(left) == MOST_SENTENCES + 1
    assert left[-1].startswith("802 more.")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty or no text"),
        ("- name: [", "is not YAML"),
        ("- name: !!python/object:os.system x", "is not YAML"),
        ("name: Controller", "is no list of 1 to 100 roles"),
        ("[]", "is no list of 1 to 100 roles"),
        ("- name: A\n---\n- name: B", "is no list of 1 to 100 roles"),
        ("- name: A\n" * 101, "is no list of 1 to 100 roles"),
        ("- count: 3", "[0] is no role with a name"),
        ("- Controller", "[0] is no role with a name"),
        ("- {name: Controller, count: many}", "[0] Controller.count is no number"),
        ("- {name: Controller, count: -1}", "[0] Controller.count is no number"),
        ("- {name: Controller, count: 9999999}", "[0] Controller.count is no number"),
        ("- {name: Controller, defaults: [1]}", "[0] Controller.defaults is no table"),
        ("- {name: Controller, instances: 3}", "[0] Controller.instances is no list"),
        ("- {name: Controller, instances: [3]}", "[0] Controller.instances[0] is no table"),
        ("- {name: Controller, defaults: {traits: a}}", "Controller.traits is no list"),
        ("- {name: Controller, defaults: {networks: [a]}}", "Controller.networks[0] is no table"),
        ("- &a\n  name: Controller\n  defaults: *a\n", "before it is whole"),
        (BOMB, "grows to more than"),
        ("- " * 40 + "x", "nests deeper than"),
        ("#" * (5 * 2**20), "is larger than 4 MiB"),
        ("- name: \ud800", "is not UTF-8"),
        ("- name: a\0b", "is empty or no text"),
    ],
    ids=lambda text: text[:40].encode(errors="replace").decode(),
)
def test_what_cannot_be_read_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        overcloud(text)
    assert sentence in str(caught.value)
    assert caught.value.remedy


WORDS = st.sampled_from([
    "Controller", "Compute", "CephStorage", "Mine", "internal_api", "ctlplane", "a:b,c", "false",
    "3", "", "~", "x" * 300, "\u2028",
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | WORDS, inner, max_size=4)
    ),
    max_leaves=12,
)
PROPERTIES = st.fixed_dictionaries({}, optional={key: VALUES for key in (
    "name", "hostname", "provisioned", "image", "networks", "nics", "profile", "capabilities",
    "resource_class", "traits", "managed", "network_config", "other",
)})  # fmt: skip
ROLES = st.lists(
    st.fixed_dictionaries({"name": WORDS | st.text()}, optional={
        "count": st.integers(-1, 9) | VALUES, "defaults": PROPERTIES | VALUES,
        "instances": st.lists(PROPERTIES, max_size=3) | VALUES, "hostname_format": VALUES,
    }), max_size=4,
)  # fmt: skip


def never_raises(text: str) -> None:
    try:
        told, left = overcloud(text)
    except Invalid as refused:
        told, left = {}, [str(refused), refused.remedy]
    for group in groups(told).values():
        assert group.keys() <= Group.model_fields.keys()
        Group.model_validate(group)
    assert left
    assert all(0 < len(one) < 1000 and "\n" not in one for one in left)


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    never_raises(text)


@given(ROLES)
def test_no_roles_are_too_odd(roles: Any) -> None:
    never_raises(json.dumps(roles))
    never_raises(yaml.safe_dump(roles, allow_unicode=True))
