"""Add-ons as people ask for them: their secrets are named, sealed, and told by nobody."""

from typing import Any

import httpx
import pytest

from provisioning import cluster_secrets
from provisioning.cluster_rows import Cluster, ClusterSecret
from provisioning.secrets import Unsealer
from tests.contract.test_cluster_verbs import SPEC, Place, place
from tests.fakes.an_addon import OPTIONS, SECRETS
from tests.unit.test_clusters import house, nothing_is_there

__all__ = ["house", "place"]
KEY = SECRETS["ceph-key"]
CEPH: dict[str, Any] = {
    "kind": "kubeadm", "version": "1.36.2", "addons": ["ceph"],
    "options": {"addons": {"ceph": {**OPTIONS["ceph"]}}},
}  # fmt: skip


def a_file(place: Place) -> str:
    (place.folder / "ceph.key").write_text(f"{KEY}\n")
    return f"ceph-key={place.folder}/ceph.key"


def test_a_secret_comes_from_a_file_and_nobody_tells_it(place: Place) -> None:
    code, text = place.seed("cluster", "plan", place.wish(**CEPH))
    assert code == 1
    assert "no secret named ceph-key came with the cluster" in " ".join(text.split())
    code, text = place.seed("cluster", "plan", place.wish(**CEPH), "--secret", a_file(place))
    assert code == 0, text
    assert nothing_is_there(place.house)
    assert not place.house.rows(ClusterSecret)

    told = [place.seed("cluster", "create", place.wish(**CEPH), "--secret", a_file(place))]
    assert told[0][0] == 0, told
    for words in (("cluster", "list"), ("cluster", "show", "web"), ("event", "list")):
        told.append(place.seed(*words, "-o", "json"))
    assert not [text for _code, text in told if KEY in text]
    with place.house.store.read() as session:
        unseal = Unsealer(place.folder / "master.key").open
        (row,) = place.house.rows(Cluster)
        assert cluster_secrets.names(session, row.id) == ("ceph-key",)
        assert cluster_secrets.opened(session, unseal, row.id) == {"ceph-key": f"{KEY}\n"}


def test_a_plan_tells_which_addresses_would_be_kept(place: Place) -> None:
    metallb = {"addons": {"metallb": {"network": "storage", "count": 3}}}
    wish = place.wish(**CEPH | {"addons": ["metallb"], "options": metallb})
    code, text = place.seed("cluster", "plan", wish)
    assert code == 0, text
    assert "metallb: 10.40.0.252-10.40.0.254" in text
    assert nothing_is_there(place.house)


def test_the_same_again_with_another_secret_is_a_conflict(place: Place) -> None:
    wish = place.wish(**CEPH)
    assert place.seed("cluster", "create", wish, "--secret", a_file(place))[0] == 0
    assert place.seed("cluster", "create", wish, "--secret", a_file(place))[0] == 0
    other = f"ceph-key={place.folder}/web.yaml"
    code, text = place.seed("cluster", "create", wish, "--secret", other)
    assert code != 0
    assert "differs in secrets" in " ".join(text.split())


@pytest.mark.parametrize(
    ("word", "says"),
    [("ceph-key", "NAME=FILE"), ("=x", "NAME=FILE"), ("ceph-key=/nowhere", "cannot read /nowhere")],
)
def test_a_word_that_is_none_is_refused_before_it_is_sent(
    place: Place, word: str, says: str
) -> None:
    code, text = place.seed("cluster", "create", place.wish(**CEPH), "--secret", word)
    assert code == 2
    assert says in " ".join(text.split())


@pytest.mark.parametrize(
    "secrets",
    [
        {"Ceph Key": KEY}, {"x.key": KEY}, {"ceph-key": [KEY]}, {"ceph-key": {"x": KEY}}, [KEY],
        KEY, {f"key-{n}": KEY for n in range(17)}, {"ceph-key": KEY * 2000}, {"ceph-key": ""},
    ],
    ids=["name", "name of a file", "list", "table", "no table", "text", "many", "large", "empty"],
)  # fmt: skip
def test_what_can_be_none_is_refused_and_not_repeated(place: Place, secrets: Any) -> None:
    token = (place.folder / "token").read_text().strip()
    answer = httpx.put(
        f"{place.env['SEED_SERVER']}/v1/clusters/web",
        json={**SPEC, **CEPH, "secrets": secrets},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert answer.status_code in (400, 409, 422), answer.text
    assert "secrets" in answer.json()["detail"]
    assert KEY not in answer.text
    assert nothing_is_there(place.house)
