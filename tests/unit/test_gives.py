"""What an overcloud takes from the bare metal: each row against a golden file and its consumer."""

import configparser
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import openstack.config
import pytest
import yaml
from hypothesis import given as for_all
from hypothesis import strategies as st

from provisioning import gives, kernel_args
from provisioning.errors import Invalid
from provisioning.gives import Give, _disks, flavors, kernel
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.kinds import DataDisk
from provisioning.targets import PartSpec
from tests.unit import overcloud_facts

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "gives"
KNOWN = gives.known()
SECRET = "Pa55-word"
FACTS = {"small": overcloud_facts.small(), "large": overcloud_facts.large()}


def facts(size: str = "large", **wishes: Any) -> OvercloudFacts:
    return replace(FACTS[size], wishes=wishes)


def texts(parts: list[PartSpec]) -> dict[str, str]:
    return {part.path: part.content.decode() for part in parts}


def given(row: str, told: OvercloudFacts) -> dict[str, str]:
    assert KNOWN[row].lacks(told) == ""
    return texts(KNOWN[row].files(told))


def loaded(text: str) -> Any:
    return yaml.safe_load(text)


def with_disk(told: OvercloudFacts, **disk: Any) -> OvercloudFacts:
    """Its first node has one more."""
    first, *others = told.nodes
    more = replace(first, disks=(*first.disks, DataDisk(**disk)))
    return replace(told, nodes=(more, *others))


def ini(text: str) -> dict[str, dict[str, list[str]]]:
    """As oslo.config reads it: an option that is there twice has two values."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition(" = ")
            section.setdefault(key, []).append(value)
    return found


def lent(told: OvercloudFacts) -> OvercloudFacts:
    """Three servers more, of two classes, that its own Ironic has."""
    nodes = [
        replace(
            overcloud_facts.node(number, f"bm-{number}", ()),
            resource_class=name, traits=("CUSTOM_FAST", *more), cpus=64, memory_mib=262144,
            disks=(DataDisk("root", f"0x5000c5000000f0{number}", f"R{number}", size),),
        )
        for number, (name, more, size) in enumerate(
            [("gold.large", ("HW_CPU_X86_VMX",), 960 * 10**9), ("gold.large", (), 480 * 10**9),
             ("gpu-a100", (), 960 * 10**9)], 20,
        )
    ]  # fmt: skip
    return replace(told, lent=tuple(nodes))


SWITCHES = {
    "sw1": {
        "mac": "00:1c:73:00:00:01", "device_type": "netmiko_arista_eos", "address": "10.0.0.2",
        "physical_networks": ["physnet1"],
    }
}  # fmt: skip
PIN = {
    "vendor": "intel", "dedicated": "4-15,20-31", "shared": "2-3,18-19", "dpdk": "1,17",
    "hugepages": {"size": "1G", "count": 96, "reserved": {"0": 2, "1": 2}},
    "devices": [
        {"devname": "ens1f0", "physical_network": "physnet2", "trusted": True},
        {"vendor_id": "10de", "product_id": "20b0"},
    ],
}  # fmt: skip
MANAGER = {
    "cluster": "mgmt", "server": "https://10.20.0.8:6443",
    "ca_pem": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
}  # fmt: skip
POOL = "10.20.0.150-10.20.0.250"

# --- all rows -------------------------------------------------------------------------------------

CASES: dict[str, dict[str, OvercloudFacts]] = {
    "ceph-osds": {"large": FACTS["large"]},
    "cinder-lvm": {
        "small": with_disk(FACTS["small"], role="cinder-lvm", wwn="eui.0025385b71b02a3c"),
    },
    "zones": FACTS,
    "clouds": {
        "small": FACTS["small"],
        "large": replace(
            facts(clouds={"cacert": "/etc/ssl/cloud.pem", "external": "cloud.example.com",
                          "tls": ["external"], "password": SECRET}),
            services=("horizon", "barbican"),
        ),
    },
    "flavors": {"small": lent(FACTS["small"]), "large": lent(facts(flavors={"public": True}))},
    "neutron": {
        "large": lent(facts(neutron={"switches": SWITCHES, "vlans": {"physnet1": "700:799"}})),
    },
    "kernel": {
        "small": facts(
            "small",
            kernel={"compute": {"vendor": "amd", "devices": [{"address": "0000:41:00.0"}]}},
        ),
        "large": facts(
            kernel={"compute": PIN, "network": {"hugepages": {"size": "2M", "count": 512}}}
        ),
    },
    "octavia": {
        "small": facts("small", octavia={"pool": POOL}),
        "large": facts(octavia={"pool": "10.40.0.150-10.40.0.250", "network": "storage"}),
    },
    "magnum": {
        "small": facts("small", magnum=MANAGER),
        "large": facts(magnum=MANAGER | {"token": SECRET, "chart_version": "0.10.1"}),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "size"), [(row, size) for row, sizes in CASES.items() for size in sizes]
)
def test_the_files_are_as_written_down(row: str, size: str) -> None:
    """With GOLDEN=write they are written anew."""
    folder, told = GOLDEN / row / size, CASES[row][size]
    found = given(row, told)
    if os.environ.get("GOLDEN") == "write":
        for path, text in found.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    kept = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    assert found == kept


def test_every_row_is_tried() -> None:
    assert set(KNOWN) == set(CASES)


@pytest.mark.parametrize("row", KNOWN)
def test_what_has_a_secret_is_for_its_owner_alone(row: str) -> None:
    for told in CASES[row].values():
        parts = KNOWN[row].files(told)
        open_to_all = [p.path for p in parts if SECRET.encode() in p.content and p.mode != 0o600]
        assert open_to_all == []
        assert all(not Path(p.path).is_absolute() and ".." not in p.path for p in parts)


@pytest.mark.parametrize("row", KNOWN)
def test_a_row_says_what_it_lacks(row: str) -> None:
    bare = OvercloudFacts("0", "bare", "", {}, {}, ())
    says = KNOWN[row].lacks(bare)
    assert says
    assert not says.endswith(".")


@pytest.mark.parametrize("row", KNOWN)
def test_a_row_is_for_people(row: str) -> None:
    give: Give = KNOWN[row]
    assert give.name == row
    assert re.fullmatch(r"[a-z][a-z-]+", row)
    assert 10 < len(give.summary) < 80


def test_a_wish_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match=r"clouds\.regoin"):
        KNOWN["clouds"].lacks(facts(clouds={"regoin": "x"}))


# --- disks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wwn", "path"),
    [
        ("0x5000C500A1B2C3D4", "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"),
        ("5000c500a1b2c3d4", "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"),
        ("naa.5000c500a1b2c3d4", "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"),
        ("eui.0025385b71b02a3c", "/dev/disk/by-id/nvme-eui.0025385b71b02a3c"),
        ("", ""),
    ],
)
def test_a_disk_is_named_by_its_wwn(wwn: str, path: str) -> None:
    assert _disks.path_of(DataDisk("ceph-osd", wwn)) == path


def test_osds_are_as_cephadm_reads_them() -> None:
    """The rules of ceph/ceph's DriveGroupSpec that concern these files."""
    told = with_disk(FACTS["large"], role="ceph-osd", wwn="0x1")
    told = with_disk(told, role="ceph-db", wwn="eui.2")
    specs = list(yaml.safe_load_all(given("ceph-osds", told)["osds.yaml"]))
    assert len({spec["service_id"] for spec in specs}) == len(specs) == 4
    for spec in specs:
        assert set(spec) == {"service_type", "service_id", "placement", "spec"}
        assert spec["service_type"] == "osd"
        assert len(spec["placement"]["hosts"]) == 1
        for devices in spec["spec"].values():
            assert set(devices) == {"paths"}
            assert devices["paths"]
    assert specs[0]["spec"]["db_devices"] == {"paths": ["/dev/disk/by-id/nvme-eui.2"]}


@pytest.mark.parametrize("row", ["ceph-osds", "cinder-lvm"])
def test_a_disk_without_a_wwn_is_not_guessed(row: str) -> None:
    role = {"ceph-osds": "ceph-osd", "cinder-lvm": "cinder-lvm"}[row]
    told = with_disk(FACTS["large"], role=role, wwn="", serial="S9")
    assert "S9 has no WWN" in KNOWN[row].lacks(told)


# --- zones ----------------------------------------------------------------------------------------


def placed(name: str, rack: str, row: str, site: str = "dc1") -> NodeFacts:
    return NodeFacts(name, ("compute",), name, rack=rack, row=row, site=site, feed="B")


def test_a_host_is_in_one_zone() -> None:
    nodes = (placed("c0", "r1", "a"), placed("c1", "r1", "b"), placed("c2", "r 2", "b"))
    told = replace(FACTS["small"], nodes=nodes)
    tasks = loaded(given("zones", told)["zones.yml"])[0]["tasks"]
    made = [task["openstack.cloud.host_aggregate"] for task in tasks]
    zones = {one["availability_zone"]: one["hosts"] for one in made if "availability_zone" in one}
    assert zones == {"dc1-a-r1": ["c0"], "dc1-b-r1": ["c1"], "r-2": ["c2"]}
    assert len({one["name"] for one in made}) == len(made)
    allowed = {"name", "hosts", "metadata", "availability_zone", "purge_hosts", "state"}
    assert all(set(one) <= allowed for one in made)


def test_a_node_without_a_place_has_no_zone() -> None:
    told = replace(FACTS["small"], nodes=(placed("c0", "", ""),))
    assert KNOWN["zones"].lacks(told) == "the rack plan has no place for c0"


# --- clouds.yaml ----------------------------------------------------------------------------------


def region(tmp_path: Path, told: OvercloudFacts, cloud: str) -> Any:
    for path, text in given("clouds", told).items():
        (tmp_path / path).write_text(text)
    config = openstack.config.OpenStackConfig(
        config_files=[str(tmp_path / "clouds.yaml")],
        secure_files=[str(tmp_path / "secure.yaml")],
        vendor_files=[], load_envvars=False, load_yaml_config=True,
    )  # fmt: skip
    return config.get_one(cloud=cloud)


def test_openstacksdk_reads_clouds(tmp_path: Path) -> None:
    told = CASES["clouds"]["large"]
    outside = region(tmp_path, told, "cloud")
    assert outside.get_interface() == "public"
    assert outside.config["auth"]["auth_url"] == "https://cloud.example.com:5000/v3"
    assert outside.config["auth"]["password"] == SECRET
    assert outside.get_endpoint("key-manager") == "https://cloud.example.com:9311"
    assert outside.get_requests_verify_args()[0] == "/etc/ssl/cloud.pem"
    inside = region(tmp_path, told, "cloud-internal")
    assert inside.get_interface() == "internal"
    assert inside.get_auth_args()["auth_url"] == "http://10.20.0.5:5000/v3"
    assert inside.get_region_name() == "RegionOne"


def test_openstacksdk_takes_an_application_credential(tmp_path: Path) -> None:
    wish = {"application_credential_id": "a1", "application_credential_secret": SECRET}
    cloud = region(tmp_path, facts(clouds=wish), "cloud")
    auth = cloud.get_auth()
    assert type(auth).__name__ == "ApplicationCredential"
    assert "username" not in cloud.config["auth"]


def test_half_a_credential_is_none() -> None:
    assert "one is missing" in KNOWN["clouds"].lacks(
        facts(clouds={"application_credential_id": "a1"})
    )


def test_without_a_login_none_is_written() -> None:
    assert set(given("clouds", facts())) == {"clouds.yaml"}


# --- Nova and Neutron -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "custom"),
    [
        ("baremetal", "CUSTOM_BAREMETAL"),
        ("baremetal-small", "CUSTOM_BAREMETAL_SMALL"),
        ("baremetal.with-GPU", "CUSTOM_BAREMETAL_WITH_GPU"),
        ("a--b..c", "CUSTOM_A_B_C"),
        ("stra\u00dfe", "CUSTOM_STRA_E"),
        ("x-", "CUSTOM_X_"),
    ],
)
def test_a_class_is_named_as_placement_names_it(name: str, custom: str) -> None:
    """The first three are Ironic's own examples."""
    assert flavors.resource_class(name) == custom


@for_all(st.text(min_size=1, max_size=80))
def test_any_class_is_one_that_placement_takes(name: str) -> None:
    found = flavors.resource_class(name)
    assert re.fullmatch(r"CUSTOM_[A-Z0-9_]+", found, re.ASCII)
    try:
        import os_resource_classes
    except ModuleNotFoundError:  # not in the locked environment; see docs/overcloud-gives.md
        return
    assert found == os_resource_classes.normalize_name(name)


def test_a_flavor_asks_for_one_server_and_nothing_else() -> None:
    tasks = loaded(given("flavors", CASES["flavors"]["large"])["flavors.yml"])[0]["tasks"]
    gold, gpu = (task["openstack.cloud.compute_flavor"] for task in tasks)
    assert gold["extra_specs"] == {
        "resources:CUSTOM_GOLD_LARGE": "1", "resources:VCPU": "0", "resources:MEMORY_MB": "0",
        "resources:DISK_GB": "0", "trait:CUSTOM_FAST": "required",
    }  # fmt: skip
    assert gold["disk"] == 446  # the smaller of the two, less one
    assert gpu["name"] == "gpu-a100"
    allowed = {"name", "vcpus", "ram", "disk", "is_public", "extra_specs"}
    assert set(gold) == allowed


def test_two_classes_that_nova_cannot_tell_apart_are_refused() -> None:
    told = lent(FACTS["large"])
    first, *others = told.lent
    told = replace(told, lent=(replace(first, resource_class="gold-large"), *others))
    assert "are one for Nova: CUSTOM_GOLD_LARGE" in KNOWN["flavors"].lacks(told)


def test_a_switch_is_found_by_name_and_has_no_login() -> None:
    found = given("neutron", CASES["neutron"]["large"])
    section = ini(found["ml2_conf_genericswitch.ini"])["genericswitch:sw1"]
    assert section["ngs_mac_address"] == ["00:1c:73:00:00:01"]
    assert not {"username", "password", "key_file", "secret"} & set(section)
    assert ini(found["ml2_conf.ini"])["ml2"]["mechanism_drivers"] == ["ovn,genericswitch"]
    port = json.loads(found["ports.json"])["bm-20"]["52:54:00:00:14:00"]
    assert port["local_link_connection"] == {
        "switch_id": "00:1c:73:00:00:01", "port_id": "swp80", "switch_info": "sw1",
    }  # fmt: skip
    assert port["physical_network"] == "physnet1"


@pytest.mark.parametrize("word", ["mac", "device_type", "address"])
def test_a_switch_that_is_half_known_is_named(word: str) -> None:
    half = {"sw1": {key: value for key, value in SWITCHES["sw1"].items() if key != word}}
    told = lent(facts(neutron={"switches": half}))
    assert f"neutron.switches.sw1.{word}" in KNOWN["neutron"].lacks(told)


def test_a_switch_of_an_unknown_kind_is_refused() -> None:
    odd = {"sw1": SWITCHES["sw1"] | {"device_type": "netmiko_abacus"}}
    assert "no device type" in KNOWN["neutron"].lacks(lent(facts(neutron={"switches": odd})))


# --- kernel ---------------------------------------------------------------------------------------


def wished(**more: Any) -> kernel.RoleWish:
    return kernel.RoleWish.model_validate(PIN | more)


@pytest.mark.parametrize(
    ("vendor", "iommu"),
    [
        ("intel", ["intel_iommu=on", "iommu=pt"]),
        ("amd", ["iommu=pt"]),
        ("arm", ["iommu.passthrough=1"]),
    ],
)
def test_arguments_are_those_a_claim_may_give(vendor: Any, iommu: list[str]) -> None:
    found = kernel.arguments(kernel.Hardware(vendor), wished())
    kernel_args.check(found)
    assert found == [
        *iommu, "default_hugepagesz=1G", "hugepagesz=1G", "hugepages=96",
        "isolcpus=managed_irq,domain,1,4-15,17,20-31", "nohz_full=1,4-15,17,20-31",
    ]  # fmt: skip


def test_who_made_the_cpus_is_told_by_traits() -> None:
    node = overcloud_facts.node(0, "n", ("compute",))
    for trait, arch, vendor in (
        ("HW_CPU_X86_INTEL_VMX", "x86_64", "intel"),
        ("HW_CPU_X86_AMD_SVM", "x86_64", "amd"),
        ("CUSTOM_X", "x86_64", ""),
        ("CUSTOM_X", "aarch64", "arm"),
    ):
        told = replace(node, traits=(trait,), cpu_arch=arch)
        assert kernel.hardware(told, kernel.RoleWish()).vendor == vendor


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"vendor": ""}, "who made its CPUs"),
        ({"shared": "2-4"}, "CPU 4 is dedicated and shared"),
        ({"dpdk": "0"}, "CPU 0 is the host's"),
        ({"dedicated": "4-64"}, "there is no CPU 64: it has 32 threads"),
        ({"hugepages": {"count": 126}}, "less than 4096 are left"),
        ({"hugepages": {"count": 1, "reserved": {0: 2}}}, "more huge pages are reserved"),
    ],
)
def test_what_the_hardware_cannot_do_is_said(more: dict[str, Any], says: str) -> None:
    vendor = more.get("vendor", "intel")
    shared = {"shared": ""} if "dedicated" in more else {}
    faults = list(kernel._faults(kernel.Hardware(vendor, 32, 131072), wished(**(shared | more))))
    assert any(says in fault for fault in faults), faults


@for_all(st.frozensets(st.integers(0, 300), max_size=80))
def test_a_list_of_cpus_is_the_set_it_was(cpus: frozenset[int]) -> None:
    assert kernel.cpus_of(kernel.in_words(cpus)) == cpus


@for_all(
    st.frozensets(st.integers(1, 63), max_size=60),
    st.sampled_from(["intel", "amd", "arm"]),
    st.sampled_from([None, {"size": "2M", "count": 7}, {"size": "1G", "count": 3}]),
)
def test_any_wish_is_in_the_grammar(cpus: frozenset[int], vendor: Any, pages: Any) -> None:
    words = {"dedicated": kernel.in_words(cpus), "hugepages": pages, "vendor": vendor}
    if len(words["dedicated"]) <= 170:
        kernel_args.check(
            kernel.arguments(kernel.Hardware(vendor), kernel.RoleWish.model_validate(words))
        )


def test_nova_is_told_what_the_kernel_was() -> None:
    found = given("kernel", CASES["kernel"]["large"])
    conf = ini(found["nova/cloud-compute-0/nova.conf"])
    assert conf["compute"] == {
        "cpu_dedicated_set": ["4-15,20-31"], "cpu_shared_set": ["2-3,18-19"],
    }  # fmt: skip
    assert conf["DEFAULT"]["reserved_huge_pages"] == [
        "node:0,size:1GB,count:2", "node:1,size:1GB,count:2",
    ]  # fmt: skip
    devices = [json.loads(line) for line in conf["pci"]["device_spec"]]
    assert devices[0] == {"devname": "ens1f0", "physical_network": "physnet2", "trusted": "true"}
    assert "nova/cloud-network-0/nova.conf" not in found
    assert "hugepages=512" in found["kernel-args/cloud-network-0"]


# --- Octavia --------------------------------------------------------------------------------------


def test_amphorae_meet_controllers_in_a_network_of_seeds() -> None:
    found = given("octavia", CASES["octavia"]["large"])
    words = loaded(found["kolla/globals.d/octavia.yml"])
    assert words["octavia_network_interface"] == "bond0.40"
    network = words["octavia_amp_network"]
    assert (network["provider_segmentation_id"], network["mtu"]) == (40, 9000)
    assert network["subnet"]["no_gateway_ip"] is True
    conf = ini(found["octavia/cloud-control-1/octavia.conf"])["health_manager"]
    assert conf["bind_ip"] == ["10.40.0.11"]
    assert conf["controller_ip_port_list"] == [
        "10.40.0.10:5555,10.40.0.11:5555,10.40.0.12:5555",
    ]  # fmt: skip


def test_interfaces_that_differ_are_told_one_by_one() -> None:
    told = CASES["octavia"]["large"]
    first, *others = told.nodes
    wire = replace(first.wires["storage"], interface="eno9")
    first = replace(first, wires=first.wires | {"storage": wire})
    found = given("octavia", replace(told, nodes=(first, *others)))
    assert "octavia_network_interface" not in loaded(found["kolla/globals.d/octavia.yml"])
    own = found["kolla/inventory/host_vars/cloud-control-0/octavia.yml"]
    assert loaded(own) == {"octavia_network_interface": "eno9"}


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        ("10.20.0.90-10.20.0.150", "Seed's pool"),
        ("10.20.0.1-10.20.0.4", "the gateway"),
        ("10.20.0.4-10.20.0.6", "a VIP"),
        ("10.20.1.4-10.20.1.6", "is not in 10.20.0.0/24"),
        ("10.20.0.6-10.20.0.4", "no range"),
        ("10.20.0.6-fe80::1", "no range"),
        (None, "octavia.pool"),
    ],
)
def test_amphorae_get_no_address_that_somebody_has(pool: str | None, says: str) -> None:
    assert says in KNOWN["octavia"].lacks(facts(octavia={"pool": pool}))


# --- Magnum ---------------------------------------------------------------------------------------


def test_magnum_has_a_token_and_no_certificate() -> None:
    found = given("magnum", CASES["magnum"]["large"])
    conf = ini(found["magnum.conf"])
    assert conf["drivers"] == {"default_driver": ["k8s_capi_helm_v1"]}
    assert conf["capi_helm"]["kubeconfig_file"] == ["/etc/magnum/kubeconfig"]
    kubeconfig = loaded(found["kubeconfig"])
    (user,) = kubeconfig["users"]
    assert user["user"] == {"token": SECRET}
    assert kubeconfig["contexts"][0]["name"] == kubeconfig["current-context"]
    kinds = [one["kind"] for one in yaml.safe_load_all(found["service-account.yaml"])]
    assert kinds == ["Namespace", "ServiceAccount", "Secret", "ClusterRoleBinding"]


def test_ini_files_are_what_a_parser_of_ini_takes() -> None:
    for row, sizes in CASES.items():
        for told in sizes.values():
            for path, text in given(row, told).items():
                if path.endswith((".ini", ".conf")):
                    configparser.RawConfigParser(strict=False).read_string(text)
