"""`seed cluster ...` as people type it, by HTTP: planned, made, shown, given back."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from api.app import create_app
from api.parts import Door
from api.roles import Role
from provisioning.cluster_rows import Cluster, Member
from provisioning.models import Claim
from provisioning.states import ClusterState
from seed.cli import app
from tests.fakes.api import a_token, some_parts
from tests.fakes.claims import KEYS
from tests.fakes.life import House
from tests.fakes.serving import api_on_a_port
from tests.unit.test_cluster_life import can_seal, cluster, rounds, tell
from tests.unit.test_clusters import house, nothing_is_there

__all__ = ["house"]
SPEC: dict[str, Any] = {
    "name": "web", "kind": "swarm", "image": "debian", "api": {"network": "storage"},
    "control": {"count": 1, "layout": "bonded"}, "workers": {"count": 2, "layout": "bonded"},
    "ssh_keys": [KEYS[0]],
}  # fmt: skip


@dataclass
class Place:
    house: House
    folder: Path
    env: dict[str, str]

    def seed(self, *words: str, told: str | None = None) -> tuple[int, str]:
        """Exit code, and all that was printed."""
        done = CliRunner().invoke(app, words, env=self.env, input=told)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert all(len(line) <= 80 for line in done.output.splitlines() if "│" in line)
        return done.exit_code, done.output

    def wish(self, **told: Any) -> str:
        file = self.folder / "web.yaml"
        file.write_text(yaml.safe_dump(SPEC | told))
        return str(file)

    def json(self, *words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "-o", "json"], env=self.env)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
def place(house: House, tmp_path: Path) -> Iterator[Place]:
    can_seal(house)
    parts = replace(some_parts(tmp_path), store=house.store)
    parts.__dict__["desk"] = house.desk
    (tmp_path / "token").write_text(a_token(parts, "me", Role.CLAIMER, project="p"))
    (tmp_path / "key.pub").write_text(f"{KEYS[0]} me\n")
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        yield Place(
            house,
            tmp_path,
            {
                "SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "NO_COLOR": "1", "COLUMNS": "80",
                "SEED_TOKEN_FILE": str(tmp_path / "token"), "TZ": "UTC",
            },
        )  # fmt: skip


def test_a_plan_names_nodes_and_addresses_and_holds_nothing(place: Place) -> None:
    code, text = place.seed("cluster", "plan", place.wish())
    assert code == 0, text
    assert "web can be had: 1 control, 2 workers" in text
    planned = place.json("cluster", "plan", place.wish())
    assert [node["name"] for node in planned["nodes"]] == [
        "web-control-0", "web-worker-0", "web-worker-1",
    ]  # fmt: skip
    for node in planned["nodes"]:
        assert node["node"] in text
        assert node["address"] in text
    assert planned["vip"] in text
    assert nothing_is_there(place.house)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"workers": {"count": 9, "layout": "bonded"}}, "workers: claim web wants 9"),
        ({"kind": "k9s"}, "kind: there is no kind k9s"),
        ({"pods": "10.40.0.0/16"}, "pods: 10.40.0.0/16 overlaps the members' network"),
        ({"workers": {"count": 1}}, "workers.layout"),
    ],
)
def test_a_plan_says_what_is_missing(place: Place, told: dict[str, Any], sentence: str) -> None:
    code, text = place.seed("cluster", "plan", place.wish(**told))
    assert code == 1
    assert sentence in " ".join(text.split())
    code, text = place.seed("cluster", "create", place.wish(**told))
    assert code != 0
    assert sentence in " ".join(text.split())
    assert nothing_is_there(place.house)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"control": {"count": 2, "layout": "bonded"}}, "2 control planes"),
        ({"pods": "10.96.0.0/12"}, "services: 10.96.0.0/16 overlaps pods"),
        ({"api": {"network": "storage", "port": 70000}}, "api.port"),
        ({"nmae": "x"}, "nmae"),
        ({"name": "Web"}, "name"),
    ],
)
def test_what_no_document_can_say_names_its_field(
    place: Place, told: dict[str, Any], field: str
) -> None:
    for verb in ("plan", "create"):
        code, text = place.seed("cluster", verb, place.wish(**told))
        assert code != 0
        assert field in " ".join(text.split())
    assert nothing_is_there(place.house)


def test_what_is_no_document_is_refused_in_a_sentence(place: Place) -> None:
    for text in ("[", "- a", ""):
        (place.folder / "x.yaml").write_text(text)
        code, said = place.seed("cluster", "create", str(place.folder / "x.yaml"))
        assert code == 2
        assert "x.yaml" in said.replace("\n", "")


def test_it_is_made_shown_and_given_back(place: Place) -> None:
    key = str(place.folder / "key.pub")
    wish = place.wish(ssh_keys=[])
    made = place.json("cluster", "create", wish, "--ssh-key", key)
    assert (made["state"], len(made["members"])) == ("claiming", 3)
    assert place.json("cluster", "create", wish, "--ssh-key", key)["id"] == made["id"]
    rounds(place.house, ClusterState.BOOTSTRAPPING)
    first = next(m for m in place.house.rows(Member) if m.role == "control")
    tell(place.house, first, step="docker", state="failed", missing="/usr/sbin/dockerd")
    place.house.reconciler._cluster(cluster(place.house).id)
    code, text = place.seed("cluster", "show", "web")
    assert code == 0
    assert "web-control-0 lacks /usr/sbin/dockerd" in " ".join(text.split())
    assert {m["name"] for m in made["members"]} <= set(text.split())
    for member in place.house.rows(Member):
        tell(place.house, member)
    place.house.reconciler._cluster(cluster(place.house).id)
    (row,) = place.json("cluster", "list")
    assert row["state"] == "ready"
    assert all(m["joined_at"] for m in row["members"])
    code, text = place.seed("cluster", "list")
    assert "ready" in text

    code, text = place.seed("claim", "release", "web-worker-0", "--yes")
    assert code != 0
    assert "is a node of the cluster web" in " ".join(text.split())
    code, text = place.seed("cluster", "release", "web", told="2\n")
    assert code == 1
    assert not place.house.rows(Cluster)[0].released
    code, text = place.seed("cluster", "release", "web", told="3\n")
    assert code == 0, text
    assert place.json("cluster", "undo", "web")["released"] is False
    place.json("cluster", "release", "web", "--yes", "--now")
    rounds(place.house, ClusterState.RELEASED)
    assert place.json("cluster", "list") == []
    (ended,) = place.json("cluster", "list", "--ended")
    assert (ended["state"], len(ended["members"])) == ("released", 3)
    assert all(claim.ended_at for claim in place.house.rows(Claim))


def test_nodes_of_clusters_are_left_out_of_the_table_of_claims(place: Place) -> None:
    place.json("cluster", "create", place.wish())
    code, text = place.seed("claim", "list")
    assert code == 0
    assert "web-worker-0" not in text
    assert "3 more are nodes of clusters" in " ".join(text.split())
    found = place.json("claim", "list")
    assert {claim["cluster"] for claim in found} == {"web"}


def ready(place: Place, **told: Any) -> None:
    place.json("cluster", "create", place.wish(**told))
    rounds(place.house, ClusterState.BOOTSTRAPPING)
    for member in place.house.rows(Member):
        tell(place.house, member)
    place.house.reconciler._cluster(cluster(place.house).id)
    assert cluster(place.house).state is ClusterState.READY


def test_it_grows_without_a_question_and_shrinks_with_one(place: Place) -> None:
    ready(place)
    code, text = place.seed("cluster", "scale", "web", "--workers", "3")
    assert code == 0, text
    assert "nothing is erased" in " ".join(text.split())
    shown = place.json("cluster", "show", "web")
    assert [m["name"] for m in shown["members"]][-1] == "web-worker-2"
    assert not shown["settled"]
    code, text = place.seed("cluster", "scale", "web", "--workers", "1", told="1\n")
    assert code == 1
    assert "the disks of 2 node(s) are erased" in " ".join(text.split())
    assert cluster(place.house).spec["workers"]["count"] == 3, "nothing was done"
    code, text = place.seed("cluster", "scale", "web", "--workers", "1", told="2\n")
    assert code == 0, text
    assert cluster(place.house).spec["workers"]["count"] == 1


def test_a_smaller_size_without_its_plan_is_refused(place: Place) -> None:
    ready(place)
    from seed.commands.door import client

    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.env.items():
            patch.setenv(name, value)
        with pytest.raises(Exception, match="no such plan"):
            client().post("/clusters/web:scale", {"workers": 1})
    assert cluster(place.house).spec["workers"]["count"] == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("scale", "web", "--control", "2"), "control.count"),
        (("scale", "web", "--workers", "9"), "workers"),
        (("scale", "web"), "neither --workers nor --control"),
        (("replace", "web", "web-worker-7"), "web-worker-7"),
        (("upgrade", "web"), "neither --version nor --image"),
        (("scale", "other", "--workers", "1"), "there is no cluster 'other'"),
    ],
)
def test_what_cannot_be_changed_so_is_refused(
    place: Place, words: tuple[str, ...], sentence: str
) -> None:
    ready(place)
    before = cluster(place.house).spec
    code, text = place.seed("cluster", *words, "--yes")
    assert code != 0, text
    assert sentence in " ".join(text.split())
    assert cluster(place.house).spec == before


def test_a_member_is_replaced_once_its_disk_was_named(place: Place) -> None:
    ready(place)
    code, text = place.seed("cluster", "replace", "web", "web-worker-0", told="1\n")
    assert code == 0, text
    assert "the disks of 1 node(s) are erased" in " ".join(text.split())
    names = [m["name"] for m in place.json("cluster", "show", "web")["members"]]
    assert names == ["web-control-0", "web-worker-0", "web-worker-1", "web-worker-2"]
