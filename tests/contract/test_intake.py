"""Every format of others' lists of servers: it reads its own example, and nobody else's."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning import lists
from provisioning.documents import MAX_BYTES, document
from provisioning.errors import Invalid
from provisioning.intake import Format, Listed

SECRET = "Pa55:word"
FORMATS = lists.formats()
NODE = {
    "name": "web-1", "driver": "redfish", "resource_class": "gold",
    "driver_info": {
        "redfish_address": "https://10.0.0.5:8443", "redfish_username": "root",
        "redfish_password": SECRET, "redfish_system_id": "/redfish/v1/Systems/1",
    },
    "properties": {"cpu_arch": "x86_64"},
    "ports": [{"address": "52:54:00:00:00:01"}],
}  # fmt: skip
NESTED = {"power": {"ipmi_address": "10.0.0.5", "ipmi_username": "root", "ipmi_password": SECRET}}
IN_BIFROST = {"driver": "ipmi", "driver_info": NESTED, "nics": [{"mac": "52:54:00:00:00:01"}]}
METAL3 = f"""\
---
apiVersion: v1
kind: Secret
metadata: {{name: web-1-bmc, namespace: metal3}}
data:
  username: {base64.b64encode(b"root").decode()}
  password: {base64.b64encode(SECRET.encode()).decode()}
---
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata: {{name: web-1, namespace: metal3}}
spec:
  online: true
  bootMACAddress: 52:54:00:00:00:01
  bmc:
    address: redfish-virtualmedia+https://10.0.0.5:443/redfish/v1/Systems/1
    credentialsName: web-1-bmc
"""
CSV = (
    f"52:54:00:00:00:01,root,{SECRET},10.0.0.5,1,8192,512,Control,VM,a-uuid,web-1,192.168.1.2,,,,\n"
)
INSTACKENV = {
    "pm_type": "ipmi", "pm_addr": "10.0.0.5", "pm_user": "root", "pm_password": SECRET,
    "name": "web-1",
}  # fmt: skip
LATER = INSTACKENV | {
    "pm_type": "redfish", "pm_addr": "https://10.0.0.5", "pm_system_id": "/redfish/v1/Systems/1",
    "ports": [{"address": "52:54:00:00:00:01", "physical_network": "ctlplane",
               "local_link_connection": {"switch_id": "52:54:00:00:00:ff", "port_id": "swp1"}}],
    "capabilities": {"boot_mode": "uefi"}, "profile": "compute", "root_device": {"wwn": "0x1"},
    "conductor_group": "a", "_comment": "rack 1",
}  # fmt: skip
YAML = f"""\
nodes:
- &one
  name: web-1
  driver: ipmi
  driver_info: {{ipmi_address: 10.0.0.5, ipmi_username: root, ipmi_password: "{SECRET}"}}
  ports:
  - address: 52:54:00:00:00:01
"""
EXAMPLES = {
    "bifrost": [
        ("baremetal.json", json.dumps({"web-1": IN_BIFROST})),
        ("baremetal.yml", f"---\nweb-1: {json.dumps(IN_BIFROST)}\n"),
    ],
    "bifrost-csv": [("baremetal.csv", CSV)],
    "baremetal-create": [
        ("nodes.json", json.dumps({"nodes": [NODE]})),
        ("nodes.json", json.dumps({"chassis": [{"description": "c", "nodes": [NODE]}]})),
        ("nodes.yaml", YAML),
    ],
    "instackenv": [
        ("instackenv.json", json.dumps({"nodes": [INSTACKENV | {"mac": ["52:54:00:00:00:01"]}]})),
        (
            "instackenv.json",
            json.dumps({"nodes": [INSTACKENV | {"ports": [{"address": "52:54:00:00:00:01"}]}]}),
        ),
        ("nodes.json", json.dumps([LATER])),
        ("nodes.yaml", f"---\nnodes:\n- {json.dumps(LATER)}\n"),
    ],
    "metal3": [("hosts.yaml", METAL3)],
}
CASES = [
    pytest.param(name, *example, id=f"{name}-{n}")
    for name, examples in EXAMPLES.items()
    for n, example in enumerate(examples)
]


def read(name: str, text: str) -> list[Listed]:
    parsed = document(name, text.encode())
    (fitting,) = [f for f in FORMATS.values() if f.fits(parsed)]
    return fitting.read(parsed)


@pytest.fixture(params=FORMATS)
def plugin(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


def test_every_format_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(FORMATS)


def test_a_format_says_what_it_is(plugin: Format) -> None:
    assert plugin.name in FORMATS
    assert len(plugin.title) > 8


@pytest.mark.parametrize(("name", "file", "text"), CASES)
def test_a_server_in_this_format(name: str, file: str, text: str) -> None:
    parsed = document(file, text.encode())
    assert [f.name for f in FORMATS.values() if f.fits(parsed)] == [name]
    (server,) = FORMATS[name].read(parsed)
    assert (server.name, server.bmc_address, server.username) == ("web-1", "10.0.0.5", "root")
    assert server.macs == ("52:54:00:00:00:01",)
    assert server.password is not None
    assert server.password.get_secret_value() == SECRET
    assert SECRET not in str(server.facts)


KEYS = st.sampled_from(
    "nodes chassis driver driver_info pm_type pm_addr mac ports kind items metadata spec bmc nics"
    " data power name".split()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=25,
)


@settings(deadline=None)  # a busy machine is no failure
@given(JSON.filter(lambda v: isinstance(v, (dict, list))))
def test_whatever_is_in_it_it_is_servers_or_a_sentence(value: object) -> None:
    parsed = document("x.json", json.dumps(value).encode())
    for plugin in FORMATS.values():
        if plugin.fits(parsed):
            try:
                plugin.read(parsed)
            except Invalid as err:
                assert err.remedy  # noqa: PT017


def test_bifrosts_own_servers_behind_one_hypervisor() -> None:
    """As in its example: several servers with one BMC address, drivers of long ago."""
    hosts = {
        f"vm-{n}": {
            "name": f"vm-{n}", "uuid": f"00000000-0000-0000-0000-00000000000{n}",
            "driver": "agent_ssh", "nics": [{"mac": f"00:00:00:f9:32:f{n}"}],
            "driver_info": {"power": {"ssh_address": "192.168.122.1", "ssh_port": 22}},
        }
        for n in range(3)
    }  # fmt: skip
    found = read("baremetal.json", json.dumps(hosts))
    assert [s.bmc_address for s in found] == ["192.168.122.1"] * 3
    assert found[0].facts["driver"] == "agent_ssh"
    assert found[0].system_uuid == "", "Ironic's UUID of a node is not the server's"


def test_yaml_macs_and_serials_stay_words() -> None:
    """52:54:00:12:34:56 would be a number of base 60 in YAML 1.1, 0012 would be ten."""
    text = YAML.replace("52:54:00:00:00:01", "52:54:00:12:34:56").replace("web-1", "0012")
    (server,) = read("nodes.yaml", text)
    assert (server.macs, server.name) == (("52:54:00:12:34:56",), "0012")


def test_a_secret_that_is_not_there_is_said() -> None:
    (server,) = read("hosts.yaml", METAL3.partition("---\napiVersion: metal3")[2].join(
        ["---\napiVersion: metal3", ""]))  # fmt: skip
    assert server.password is None
    assert server.facts["secret"] == "web-1-bmc is not in the file"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{c}: &{c} [{','.join([f'*{p}'] * 10)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("x.yaml", BOMB, "grows to more than 400000 values"),
        ("x.yaml", "a: &a [*a]\n", "refers to 'a' before it is whole"),
        ("x.yaml", "a: *b\n", "is not YAML at line 1|refers to 'b'"),
        ("x.yaml", "a: !!python/object/apply:os.system [id]\n", "is not YAML at line 1"),
        ("x.yaml", "a: !!timestamp x\n", "is not YAML"),
        ("x.yaml", "a: [" * 100_000, "nests deeper than 30 levels"),
        ("x.yaml", "a: {b: c\n", "is not YAML at line 2"),
        ("x.json", "[" * 100_000, "is not JSON"),
        ("x.json", '{"a":' * 100 + "1" + "}" * 100, "nests deeper than 30 levels"),
        ("x.json", '{"nodes": NaN}', "is not JSON"),
        ("x.json", '{"nodes": [', "is not JSON at line 1"),
        ("x.json", " " * (MAX_BYTES + 1), "is larger than 4 MiB"),
        ("x.json", "", "is empty"),
        ("x.json", b"\xff\xfe{", "is not UTF-8"),
        ("x.csv", 'a,"b\n', "its quotes do not match"),
        ("x.json", '{"some": "thing"}', "looks like no format that is known"),
        ("x.json", '{"nodes": []}', "names no server"),
        ("x.json", '{"nodes": [{"driver": "ipmi", "ports": "none"}]}', r"nodes\[0\].ports"),
        (
            "x.json",
            '{"nodes": [{"driver": "ipmi", "ports": [{"address": "zz"}]}]}',
            r"nodes\[0\]: 'zz' is not a MAC",
        ),
        (
            "x.json",
            '{"nodes": [{"driver": "a", "name": "n"}, {"driver": "b", "name": "n"}]}',
            "are both 'n'",
        ),
        ("x.yaml", "kind: Secret\nmetadata: {name: s}\ndata: {password: '%'}\n---\n"
                   "kind: BareMetalHost\nmetadata: {name: h}\n", "'password' is not base64"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, name: str, body: str | bytes, sentence: str) -> None:
    keeper = lists.Keeper(None, None, "me")  # type: ignore[arg-type]  never gets so far
    with pytest.raises(Invalid, match=sentence) as caught:
        keeper.file(name, body.encode() if isinstance(body, str) else body, None)
    assert caught.value.remedy


def test_a_format_by_its_name() -> None:
    keeper = lists.Keeper(None, None, "me")  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="there is no format 'x'"):
        keeper.file("a.json", b"{}", "x")
    with pytest.raises(Invalid, match="does not look like Bifrost's"):
        keeper.file("a.json", b'{"nodes": []}', "bifrost")
