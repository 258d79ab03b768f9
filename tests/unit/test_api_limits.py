"""Depth of a body, counted on its bytes."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.limits import MAX_DEPTH, check, depth
from api.problems import Malformed


def deep(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max((deep(item) for item in inner), default=0)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_depth_is_that_of_the_document(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert depth(text.encode("utf-8", "surrogatepass")) == min(deep(value), MAX_DEPTH + 1)


@pytest.mark.parametrize("body", [b"[" * 26, b'{"a":' * 26, b'"\\"[[" ' + b"[" * 26, b"\x00"])
def test_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        check(body)


def test_hostile_bodies_take_linear_time() -> None:
    """Doubling the size must not quadruple the time; the bound is far from both."""
    for piece in (b'"\\', b'\\"', b'"', b"[]", b'"a'):
        spent = []
        for size in (100_000, 400_000):
            begin = time.process_time()
            depth(piece * (size // len(piece)))
            spent.append(time.process_time() - begin)
        assert spent[1] < 12 * spent[0] + 0.05
