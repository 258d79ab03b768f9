"""What an overcloud takes from the bare metal: each row against a golden file and its consumer."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import openstack.config
import pytest
import yaml

from provisioning import gives
from provisioning.errors import Invalid
from provisioning.gives import Give, _disks
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
