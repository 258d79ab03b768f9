"""One id from a caller to Ironic's log."""

import re
import threading

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from provisioning.reconcile import Reconciler
from provisioning.request_ids import HEADER, Headers, a_new_one, current, for_ironic

# ID_FORMAT of oslo.middleware 8.1's request_id.py
IRONIC_TAKES = (
    r"^req-[a-f0-9]{8}-[a-f0-9]{4}-"
    r"[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$"
)
PLAIN = "3f0e3c5e-0000-4000-8000-00000000000a"


@pytest.mark.parametrize("given", [PLAIN, PLAIN.upper(), PLAIN.replace("-", ""), f"req-{PLAIN}"])
def test_a_uuid_stays_the_one_it_is(given: str) -> None:
    assert for_ironic(given) == f"req-{PLAIN}"


@given(st.text(alphabet="abcXYZ019._-", min_size=1, max_size=64))
def test_any_other_id_becomes_always_the_same_one_of_ironics_form(given: str) -> None:
    assert re.match(IRONIC_TAKES, for_ironic(given))
    assert for_ironic(given) == for_ironic(given)


def test_two_ids_stay_two() -> None:
    assert for_ironic("deploy-1") != for_ironic("deploy-2")


def test_the_mapping_does_not_change_between_versions() -> None:
    assert for_ironic("deploy-1") == "req-57531102-4811-5992-86c6-457ec2971ea0"


def test_each_thread_sends_its_own() -> None:
    shared, seen = Headers(), {}
    together = threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        with a_new_one() as bound:
            together.wait()
            seen[name] = (dict(shared.items())[HEADER], for_ironic(bound))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen["a"][0] == seen["a"][1] != seen["b"][0] == seen["b"][1]


def test_without_an_id_nothing_goes_along() -> None:
    structlog.contextvars.clear_contextvars()
    assert current() == ""
    assert not Headers().items()


def test_a_steps_id_ends_with_the_step() -> None:
    with a_new_one() as first:
        assert current() == first
    with a_new_one() as second:
        assert current() == second != first
    assert current() == ""


def test_each_step_of_the_reconciler_has_an_id_of_its_own_and_leaves_none_behind() -> None:
    reconciler = Reconciler(parts=None, finder=None)  # type: ignore[arg-type]
    seen: list[str] = []

    def step() -> float:
        seen.append(current())
        return 1.0

    def broken() -> float:
        seen.append(current())
        raise ValueError

    for job in (step, broken, step):
        reconciler._work(("bmc", "x"), ("bmc", "x"), job)
    assert len(set(seen)) == 3
    assert all(seen)
    assert current() == ""
