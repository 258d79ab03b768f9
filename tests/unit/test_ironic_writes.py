"""What an operator may change in Ironic, and what of it would confuse Seed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ironic_writes import MAX_BYTES, OURS, Write, find
from api.problems import Malformed
from provisioning.errors import Conflict, Forbidden, Invalid, SeedError

NODE = "/v1/nodes/n1"
FREE: dict[str, Any] = {
    "uuid": "u", "name": "n1", "maintenance": False, "maintenance_reason": None,
    "extra": {"seed": {"class": "gpu"}, "rack": "r1"},
}  # fmt: skip


def patch(*ops: dict[str, Any]) -> Write:
    found = find("PATCH", NODE, [], json.dumps(ops).encode())
    assert found is not None
    return found


def op(what: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": what, "path": path, **more}


@pytest.mark.parametrize(
    "ops",
    [
        [op("add", "/description", value="below the window")],
        [op("remove", "/description")],
        [op("replace", "/extra/rack", value="r2"), op("test", "/extra/rack", value="r2")],
        [op("add", "/extra/a", value={"b": [1, None]}), op("remove", "/extra/a/b/0")],
        [op("add", "/extra/s~1eed", value=1)],
        [op("replace", "/extra", value={"seed": {"class": "gpu"}, "new": 1})],
        [op("test", "/extra", value={}), op("test", "/extra/seed", value={})],
        [op("replace", "/maintenance", value=True), op("add", "/maintenance_reason", value="fan")],
    ],
)
def test_what_an_operator_may_patch(ops: list[dict[str, Any]]) -> None:
    write = patch(*ops)
    write.check(FREE, "")
    assert write.body is not None
    assert json.loads(write.body) == ops
    assert (write.method, write.node, write.path) == ("PATCH", NODE, "")


@pytest.mark.parametrize(
    "one",
    [
        op("replace", "/driver_info/redfish_password", value="x"),
        op("test", "/driver_info/redfish_password", value="guess"),
        op("replace", "/driver_info", value={}), op("replace", "/driver", value="ipmi"),
        op("replace", "/name", value="x"), op("add", "/properties/capabilities", value="x"),
        op("replace", "/resource_class", value="x"), op("replace", "/protected", value=False),
        op("add", "/description/x", value="x"), op("add", "/maintenance/x", value=True),
        op("add", "/extra~1x", value="x"), op("add", "/Extra/x", value="x"),
        op("add", "/", value={}), op("add", "//extra", value={}),
        op("add", "/extra/seed", value={}), op("remove", "/extra/seed"),
        op("remove", "/extra/seed/capabilities"), op("replace", "/extra/seed/class", value="x"),
        op("remove", "/extra"), op("replace", "/extra", value={}),
        op("replace", "/extra", value={"seed": {"class": "x"}}),
    ],
)  # fmt: skip
def test_what_an_operator_may_not_patch(one: dict[str, Any]) -> None:
    with pytest.raises(Forbidden) as error:
        patch(op("add", "/description", value="first"), one).check(FREE, "")
    assert "value" not in one or str(one["value"]) != "guess" or "guess" not in str(error.value)


@pytest.mark.parametrize(
    "ops",
    [
        [], {}, None, "x", [1], [None], [[]], [{}], [op("add", "/description")],
        [op("move", "/extra/a", **{"from": "/driver_info/redfish_password"})],
        [op("copy", "/extra/a", **{"from": "/extra/b"})],
        [op("add", "/extra/a", value=1, **{"from": "/driver_info"})],
        [op("ADD", "/extra/a", value=1)], [op("add", "extra/a", value=1)],
        [op("add", ["extra"], value=1)], [op("add", "", value={})],
        [op("add", "/description", value=5)],
        [op("add", "/description", value="x" * 4097)], [op("add", "/description", value="a\0b")],
        [op("add", "/maintenance", value="true")], [op("add", "/maintenance", value=1)],
        [op("add", "/maintenance_reason", value="two\nlines")],
        [op("add", "/maintenance_reason", value="x" * 256)],
        [op("replace", "/extra", value=[])], [op("replace", "/extra", value=None)],
        [op("add", "/extra/x", value=[[[[[[[[[[[]]]]]]]]]]])],
        [op("add", "/extra/x", value=1)] * 101,
    ],
)  # fmt: skip
def test_a_patch_that_is_none(ops: Any) -> None:
    with pytest.raises((Invalid, Malformed)):
        find("PATCH", NODE, [], json.dumps(ops).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[", b'[{"op":"add","path":"/extra/x","path":"/driver_info","value":1}]',
        b'[{"op":"add","path":"/extra/x","value":NaN}]',
        b'[{"op":"add","path":"/extra/x","value":1e999}]',
        b'[{"op":"add","path":"/extra/x","value":' + b"9" * 5000 + b"}]",
        b"\xff\xfe", b"[" * 2000,
    ],
)  # fmt: skip
def test_no_body_that_two_readers_read_differently(body: bytes) -> None:
    with pytest.raises((Malformed, Invalid)):
        find("PATCH", NODE, [], body)


def test_a_large_one_is_not_even_parsed() -> None:
    with pytest.raises(Invalid, match="64 KiB"):
        find("PATCH", NODE, [], b"x" * (MAX_BYTES + 1))


def test_maintenance_is_written_anew_with_its_reason_alone() -> None:
    write = find("PUT", f"{NODE}/maintenance", [], b'{"reason": " new fan "}')
    assert write is not None
    assert (write.body, write.why) == (b'{"reason": "new fan"}', "new fan")
    bare = find("PUT", f"{NODE}/maintenance", [], b"")
    assert bare is not None
    assert bare.body == b'{"reason": null}'


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PUT", b'{"reason": "x", "node_ident": "n2"}'), ("PUT", b'{"reason": 5}'),
        ("PUT", b"[]"), ("PUT", b'{"reason": "a\\nb"}'), ("PUT", b'{"reason": "\\ud800"}'),
        ("DELETE", b'{"node_ident": "n2"}'),
    ],
)  # fmt: skip
def test_a_maintenance_of_another_shape(method: str, body: bytes) -> None:
    with pytest.raises((Invalid, Malformed)):
        find(method, f"{NODE}/maintenance", [], body)


def test_no_query_redirects_a_change() -> None:
    with pytest.raises(Forbidden):
        find("DELETE", f"{NODE}/maintenance", [("_method", "put")], b"")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{NODE}/maintenance"), ("PATCH", f"{NODE}/maintenance"), ("PUT", NODE),
        ("DELETE", NODE), ("PATCH", "/v1/ports/x"), ("PUT", f"{NODE}/states/power"),
        ("PATCH", "/v1/nodes"), ("PUT", "/v1/nodes/maintenance/x"),
    ],
)  # fmt: skip
def test_all_else_is_none_of_an_operators(method: str, path: str) -> None:
    assert find(method, path, [], b"{}") is None


SETS = find("PUT", f"{NODE}/maintenance", [], b'{"reason": "fan"}')
ENDS = find("DELETE", f"{NODE}/maintenance", [], b"")
PATCHES = patch(op("replace", "/maintenance", value=False))


@pytest.mark.parametrize("write", [SETS, ENDS, PATCHES], ids=["set", "unset", "patch"])
@pytest.mark.parametrize("reason", sorted(OURS))
def test_seeds_own_maintenance_is_left_to_seed(write: Write, reason: str) -> None:
    with pytest.raises(Conflict, match="Seed keeps Ironic off") as error:
        write.check({**FREE, "maintenance": True, "maintenance_reason": reason}, "")
    assert error.value.remedy == "seed node show n1"


@pytest.mark.parametrize("write", [SETS, ENDS, PATCHES], ids=["set", "unset", "patch"])
def test_maintenance_stays_as_it_is_while_rows_say_that_a_login_is_wrong(write: Write) -> None:
    with pytest.raises(Conflict, match="its login is being changed"):
        write.check(FREE, "its login is being changed")


def test_description_may_change_meanwhile() -> None:
    patch(op("add", "/description", value="x")).check(FREE, "its login is being changed")


@pytest.mark.parametrize("reason", sorted(OURS))
def test_nobody_borrows_seeds_reasons(reason: str) -> None:
    for write in (
        find("PUT", f"{NODE}/maintenance", [], json.dumps({"reason": f" {reason} "}).encode()),
        patch(op("add", "/maintenance_reason", value=reason)),
    ):
        assert write is not None
        with pytest.raises(Forbidden, match="its own maintenance"):
            write.check(FREE, "")


WORDS = st.text(alphabet="/~01aseed-x\0", max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
ANY_OP = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "replace", "remove", "test", "move", "copy", ""]),
        "path": st.sampled_from(
            ["/extra", "/extra/a", "/extra/seed", "/driver_info/a", "/description", "", "extra"]
        )
        | WORDS,
        "value": JSON,
        "from": WORDS,
    },
)


@given(st.lists(ANY_OP, max_size=4))
def test_whatever_passes_touches_nothing_else(ops: list[dict[str, Any]]) -> None:
    """The oracle reads pointers as jsonpointer does: parts after "/", the first names the field."""
    try:
        write = find("PATCH", NODE, [], json.dumps(ops).encode())
        assert write is not None
        write.check(FREE, "")
    except SeedError:
        return
    assert write.body is not None
    for sent in json.loads(write.body):
        assert set(sent) <= {"op", "path", "value"}
        field, *below = sent["path"].split("/")[1:]
        assert field in ("description", "extra", "maintenance", "maintenance_reason")
        assert sent["op"] in ("add", "replace", "remove", "test")
        if sent["op"] != "test":
            assert below[:1] != ["seed"]
