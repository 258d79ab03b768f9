"""A server's own word against what was asked: each difference is named, whatever it says."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.proof import Proof
from provisioning import proving

A, B = "52:54:00:22:00:01", "52:54:00:22:00:02"
WANTED: dict[str, Any] = {
    "hostname": "web-0",
    "macs": [A],
    "links": [
        {"name": "nic0", "kind": "physical", "mac": A, "mtu": 9000},
        {
            "name": "bond0", "kind": "bond", "mtu": 9000,
            "bond": {"mode": "802.3ad", "members": [A, B]},
        },
        {
            "name": "bond0.30", "kind": "vlan", "mtu": 9000, "addresses": ["10.30.0.5/24"],
            "vlan": {"id": 30, "link": "bond0"},
        },
        {"name": "br-ex", "kind": "bridge", "bridge": {"ports": ["nic2"]}},
    ],
    "routes": [{"to": "0.0.0.0/0", "via": "10.30.0.1"}, {"to": "fd00:9::/32", "via": "fd00::1"}],
    "dns": ["10.30.0.1"],
    "ntp": ["10.30.0.2"],
    "disks": {
        "root": {"serials": ["S1", "S2"], "raid": 1},
        "data": [{"serial": "S3", "role": "ceph-osd"}],
        "kept": [{"serial": "S4"}],
    },
    "kernel": "6.12.48+deb13-amd64",
    "kernel_args": ["intel_iommu=on", "quiet"],
    "services": ["containerd.service"],
    "parts": ["join"],
}  # fmt: skip


def link(name: str, kind: str, mac: str = A, **more: Any) -> dict[str, Any]:
    least = {"own_mac": mac, "mtu": 9000, "addresses": [], "up": True}
    return {"name": name, "kind": kind, "mac": mac} | least | more


def disk(serial: str, root: bool = False) -> dict[str, Any]:
    return {"name": f"sd{serial}", "serial": serial, "wwn": None, "size_bytes": 1, "root": root}


PROOF: dict[str, Any] = {
    "hostname": "web-0",
    "nics": [
        {"name": "nic0", "mac": A, "addresses": []},
        {"name": "n1", "mac": B, "addresses": []},
    ],
    "links": [
        link("nic0", "physical"),
        link("nic1", "physical", A, own_mac=B),
        link("nic2", "physical", "52:54:00:22:00:03"),
        link("bond0", "bond", bond={"mode": "802.3ad", "members": [A, B]}),
        link("bond0.30", "vlan", vlan={"id": 30, "link": "bond0"}, addresses=["10.30.0.5/24"]),
        link("br-ex", "bridge", mtu=1500, bridge={"ports": ["nic2"]}),
    ],
    "routes": [
        {"to": "0.0.0.0/0", "via": "10.30.0.1", "dev": "bond0.30"},
        {"to": "fd00:9:0::/32", "via": "fd00:0::1", "dev": "bond0.30"},
    ],
    "dns": ["10.30.0.1"],
    "ntp": ["10.30.0.2"],
    "disks": [disk("S1", True), disk("S2", True), disk("S3"), disk("S4")],
    "root": {"raid": 1, "disks": 2},
    "kernel": "6.12.48+deb13-amd64",
    "cmdline": "root=/dev/md0 ro intel_iommu=on quiet",
    "services": [{"name": "containerd.service", "state": "active"}],
    "failed_units": [],
    "parts": [{"name": "join", "fetched": True, "problem": ""}],
    "cloud_init": {"status": "done", "errors": []},
    "boot_id": "0c5f4ec0-7c1b-4f0e-9f6e-3a5d0f4d1c11",
    "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample"],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The proof with one thing else: "links.3.bond.mode"."""
    told = deepcopy(PROOF)
    *way, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    place: Any = told
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return told


def test_what_is_as_asked_differs_in_nothing() -> None:
    assert proving.differs(WANTED, PROOF) == []
    assert Proof.model_validate(PROOF), "it is a proof that the gateway would take"
    assert proving.of_node("n1", WANTED, PROOF) == ""


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("hostname", "web-1", "it calls itself 'web-1', asked was 'web-0'"),
        ("links.0.mtu", 1500, "nic0 has MTU 1500, asked was 9000"),
        ("links.0.up", False, "nic0 has no link"),
        ("links.0.name", "eth0", "nic0 is called 'eth0'"),
        ("links.3", None, "it has no bond bond0"),
        ("links.3.kind", "bridge", "bond0 is a bridge, asked was a bond"),
        ("links.3.bond.mode", "active-backup",
         "bond0 is a bond of mode active-backup, asked was 802.3ad"),
        ("links.3.bond.members", [A], f"bond0 lacks the member {B}"),
        ("links.3.bond.members", [A, B, "52:54:00:22:00:09"],
         "bond0 has the member 52:54:00:22:00:09, which was not asked for"),
        ("links.4", None, "it has no vlan bond0.30"),
        ("links.4.vlan.id", 31, "bond0.30 has VLAN 31, asked was 30"),
        ("links.4.vlan.link", "nic2", "bond0.30 is on 'nic2', asked was bond0"),
        ("links.4.addresses", ["10.30.0.6/24"],
         "bond0.30 has not the address 10.30.0.5/24, but 10.30.0.6/24"),
        ("links.4.addresses", ["10.30.0.5/16"],
         "bond0.30 has not the address 10.30.0.5/24, but 10.30.0.5/16"),
        ("links.5.bridge.ports", [], "br-ex lacks the port nic2"),
        ("routes", [], "it has no route to 0.0.0.0/0 via 10.30.0.1"),
        ("routes.1", None, "it has no route to fd00:9::/32 via fd00::1"),
        ("dns", ["8.8.8.8"], "it does not ask the DNS server 10.30.0.1, but 8.8.8.8"),
        ("ntp", [], "it does not ask the NTP server 10.30.0.2, but none"),
        ("disks.1.root", False, "its root is not on the disk S2, but on S1"),
        ("disks.2.root", True, "its root is on 3 disks, asked was 2"),
        ("disks.2", None, "it has no data disk S3 for ceph-osd"),
        ("disks.3", None, "it has no kept disk S4"),
        ("root", {"raid": None, "disks": 2}, "its root is on no RAID, asked was RAID 1"),
        ("root.disks", 1, "its root's RAID has 1 disks of 2"),
        ("kernel", "6.1.0", "its kernel is '6.1.0', asked was 6.12.48+deb13-amd64"),
        ("cmdline", "root=/dev/md0 quiet", "its kernel was not given intel_iommu=on"),
        ("cmdline", "intel_iommu=on,x quiet", "its kernel was not given intel_iommu=on"),
        ("services.0.state", "failed", "its service containerd.service is failed"),
        ("services", [], "its service containerd.service is unknown"),
        ("parts", [], "it says nothing of its part join"),
        ("parts.0", {"name": "join", "fetched": False, "problem": "the seed answered 404"},
         "it did not get its part join: the seed answered 404"),
        ("cloud_init.status", "error", "cloud-init ended as 'error'"),
        ("cloud_init", None, "cloud-init ended as nothing"),
    ],
)  # fmt: skip
def test_each_difference_is_one_sentence(path: str, value: Any, sentence: str) -> None:
    assert sentence in proving.differs(WANTED, changed(path, value))


def test_a_nic_that_is_missing_is_named() -> None:
    gone = "52:54:00:22:00:99"
    assert proving.differs({"macs": [gone]}, PROOF) == [f"it has no NIC {gone}"]
    asked = {"links": [{"kind": "physical", "mac": gone}]}
    assert proving.differs(asked, PROOF) == [f"it has no physical {gone}"]


def test_a_bond_that_took_a_members_mac_is_no_nic() -> None:
    """Only the NIC itself answers for its MAC."""
    told = changed("links.0", None)
    asked = {"links": [{"kind": "physical", "mac": A, "mtu": 9000}]}
    assert proving.differs(asked, told) == []  # nic1 shows it, as its member of the bond
    told["links"] = [one for one in told["links"] if one["kind"] == "bond"]
    assert proving.differs(asked, told) == [f"it has no physical {A}"]


def test_dhcp_is_proved_by_any_address() -> None:
    asked = {"links": [{"name": "bond0.30", "kind": "vlan", "dhcp": True}]}
    assert proving.differs(asked, PROOF) == []
    bare = changed("links.4.addresses", [])
    assert proving.differs(asked, bare) == ["bond0.30 got no address by DHCP"]


def test_a_root_that_nobody_wanted_mirrored_is_named() -> None:
    asked = {"disks": {"root": {"serials": ["S1"], "raid": 0}}}
    told = proving.differs(asked, PROOF)
    assert "its root is on RAID 1, asked was none" in told
    assert "its root is on 2 disks, asked was 1" in told


def test_what_is_not_asked_for_is_not_looked_at() -> None:
    least = {"cloud_init": {"status": "done"}}
    assert proving.differs({}, least) == []
    assert proving.differs({"links": [], "disks": {}, "kernel": ""}, least) == []


def test_a_server_whose_drive_is_of_an_earlier_seed_proves_itself() -> None:
    """Its order asks for nothing more than it tells."""
    early = ("hostname", "nics", "disks", "cloud_init", "boot_id", "host_keys", "kernel")
    taken = Proof.model_validate({key: PROOF[key] for key in early}).model_dump(mode="json")
    assert proving.differs({"hostname": "web-0", "macs": [A, B]}, taken) == []
    assert proving.differs(WANTED, taken), "what is asked for now has to be told"


def test_one_line_names_the_node_and_a_few() -> None:
    line = proving.of_node("node-7", WANTED, {})
    assert line.startswith("node-7: it calls itself nothing, asked was 'web-0'; ")
    assert line.endswith(" more")
    assert "\n" not in line


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(sorted(PROOF)) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=25,
)
SHAPES = st.dictionaries(st.sampled_from(sorted(PROOF)), anything, max_size=len(PROOF))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(told=SHAPES)
def test_a_lying_shape_is_a_difference_and_never_an_error(told: dict[str, Any]) -> None:
    found = proving.differs(WANTED, told)
    assert found
    assert all(len(s) < 1500 and s.isprintable() for s in found), found


@settings(max_examples=300, deadline=None, derandomize=True)
@given(key=st.sampled_from(sorted(PROOF)), value=anything)
def test_the_gateway_takes_one_shape(key: str, value: Any) -> None:
    """What it takes comes out as it went in; all else is refused, and nothing breaks."""
    try:
        taken = Proof.model_validate(PROOF | {key: value})
    except ValidationError:
        return
    assert proving.differs({}, taken.model_dump(mode="json")) is not None
