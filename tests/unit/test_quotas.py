"""How many nodes a project may hold, and who may claim at all."""

from pathlib import Path

import pytest

from provisioning import projects, quotas
from provisioning.errors import Conflict, Forbidden, NotFound, QuotaExceeded
from provisioning.models import Claim, now
from provisioning.store import Store
from provisioning.tenants import Project, Quota
from tests.fakes.store import new_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Project web holds 3 of class a (one claim waits) and 2 of b; 9 of a are of before."""
    store = new_store(tmp_path)
    with store.write() as session:
        session.add_all(Project(name=name) for name in ("web", "other"))
        claims = [("one", "a", 2), ("two", "a", 1), ("three", "b", 2)]
        session.add_all(
            Claim(name=name, image="debian", project="web", resource_class=kind, count=count)
            for name, kind, count in claims
        )
        session.add(
            Claim(name="old", image="debian", project="web", resource_class="a", count=9,
                  ended_at=now())
        )  # fmt: skip
        session.add(
            Claim(name="one", image="debian", project="other", resource_class="a", count=100)
        )
    return store


def limit(store: Store, **nodes: int) -> None:
    with store.write() as session:
        for name, count in nodes.items():
            kind = quotas.ALL if name == "all" else name
            session.add(Quota(project="web", resource_class=kind, nodes=count))


def asked(store: Store, resource_class: str, more: int) -> str:
    """What `check` says; empty if it lets it pass."""
    with store.read() as session:
        try:
            quotas.check(session, "web", resource_class, more)
        except QuotaExceeded as error:
            return str(error)
    return ""


def test_living_claims_are_held_by_their_count(store: Store) -> None:
    with store.read() as session:
        assert quotas.held(session, "web") == {"a": 3, "b": 2, quotas.ALL: 5}
        assert quotas.held(session, "nobody") == {quotas.ALL: 0}


def test_without_a_quota_there_is_no_limit(store: Store) -> None:
    limit(store, b=0)
    assert asked(store, "a", 500) == ""


def test_a_quota_is_exact(store: Store) -> None:
    limit(store, a=5)
    assert asked(store, "a", 2) == ""
    assert asked(store, "a", 3) == (
        "project web may hold 5 of class a; it holds 3, and 3 more would be too many"
    )
    assert asked(store, "b", 500) == ""


def test_all_classes_together_count_too(store: Store) -> None:
    limit(store, a=100, all=6)
    assert asked(store, "a", 1) == ""
    assert "may hold 6 of all classes together; it holds 5" in asked(store, "a", 2)
    assert "may hold 6 of all classes together; it holds 5" in asked(store, "never-seen", 2)


def test_of_two_broken_quotas_the_class_is_named(store: Store) -> None:
    limit(store, a=0, all=0)
    assert "of class a" in asked(store, "a", 1)


def test_a_refusal_is_a_conflict_with_its_own_code(store: Store) -> None:
    limit(store, a=0)
    with store.read() as session, pytest.raises(Conflict) as refused:
        quotas.check(session, "web", "a", 1)
    assert refused.value.code == "quota-exceeded"
    assert "`seed quota set web a --nodes N`" in refused.value.remedy


def test_a_disabled_project_may_not_claim(store: Store) -> None:
    with store.write() as session:
        assert projects.may_claim(session, "web").name == "web"
        projects.find(session, "web").disabled_at = now()
        with pytest.raises(Forbidden, match="the project web is disabled"):
            projects.may_claim(session, "web")
        with pytest.raises(NotFound) as unknown:
            projects.may_claim(session, "wbe")
    assert unknown.value.remedy == "`seed project create wbe`"
