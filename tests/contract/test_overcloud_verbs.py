"""`seed overcloud ...` as people type it, by HTTP: planned, made, shown, changed, given back."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from api.app import create_app
from api.parts import Door
from api.roles import Role
from provisioning import gives, installers, plugins
from provisioning.cluster_rows import Cluster, Member, OvercloudStage
from provisioning.states import ClusterState, StageState
from seed.cli import app
from tests.contract.test_cluster_access_verbs import reconciled
from tests.contract.test_cluster_verbs import Place
from tests.fakes.api import a_token, some_parts
from tests.fakes.claims import KEYS
from tests.fakes.life import House
from tests.fakes.serving import api_on_a_port
from tests.unit.test_cluster_life import cluster, rounds
from tests.unit.test_clusters import house, nothing_is_there
from tests.unit.test_overclouds import installed, ready

__all__ = ["house", "installed"]
INSTALLERS = plugins.load(installers)
ROWS = gives.known()
SPEC: dict[str, Any] = {
    "name": "cloud", "installer": "debian", "image": "debian", "networks": {"api": "storage"},
    "control": {"count": 1, "layout": "bonded"}, "compute": {"count": 2, "layout": "bonded"},
    "ssh_keys": [KEYS[0]],
}  # fmt: skip


class Overclouds(Place):
    def wish(self, **told: Any) -> str:
        file = self.folder / "cloud.yaml"
        file.write_text(yaml.safe_dump(SPEC | told))
        return str(file)


@pytest.fixture
def place(house: House, installed: Path, tmp_path: Path) -> Iterator[Overclouds]:
    parts = replace(some_parts(tmp_path), store=house.store)
    parts.__dict__["desk"] = house.desk
    (tmp_path / "token").write_text(a_token(parts, "me", Role.CLAIMER, project="p"))
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        env = {
            "SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "NO_COLOR": "1", "COLUMNS": "80",
            "SEED_TOKEN_FILE": str(tmp_path / "token"), "TZ": "UTC",
        }  # fmt: skip
        yield Overclouds(house, tmp_path, env)


def test_a_plan_says_what_goes_where_and_holds_nothing(place: Overclouds) -> None:
    code, text = place.seed("overcloud", "plan", place.wish())
    assert code == 0, text
    assert "cloud can be had: 1 control, 2 compute" in text
    assert "stages: hosts, data, identity" in text
    planned = place.json("overcloud", "plan", place.wish())
    assert [node["name"] for node in planned["nodes"]] == [
        "cloud-control-0", "cloud-compute-0", "cloud-compute-1",
    ]  # fmt: skip
    assert planned["nodes"][0]["roles"] == ["control", "network", "monitoring"]
    assert planned["vips"]["internal"] in text
    assert nothing_is_there(place.house)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"compute": {"count": 9, "layout": "bonded"}}, "compute: claim cloud wants 9"),
        ({"installer": "tripleo"}, "installer: there is no installer tripleo"),
        ({"release": "2023.1"}, "release: Debian's packages are 2025.1, not 2023.1"),
        ({"control": {"count": 3, "layout": "bonded"}}, "control.count: debian's databases"),
        ({"compute": {"count": 1}}, "compute.layout"),
        ({"networks": {"api": "nowhere"}}, "networks.api: there is no network"),
        ({"options": {"drivr": "fake"}}, "options.drivr"),
    ],
)
def test_a_plan_says_what_is_missing(
    place: Overclouds, told: dict[str, Any], sentence: str
) -> None:
    code, text = place.seed("overcloud", "plan", place.wish(**told))
    assert code == 1
    assert sentence in " ".join(text.split())
    code, text = place.seed("overcloud", "create", place.wish(**told))
    assert code != 0
    assert sentence in " ".join(text.split())
    assert nothing_is_there(place.house)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"control": {"count": 2, "layout": "bonded"}}, "error: control.count: 2 control planes"),
        ({"nmae": "x"}, "nmae"),
        ({"release": "Epoxy"}, "release"),
        ({"installer": 5}, "installer"),
        ({"networks": {}}, "networks.api"),
        ({"control": {"count": -1}}, "control.count"),
    ],
)
def test_what_no_document_can_say_names_its_field(
    place: Overclouds, told: dict[str, Any], field: str
) -> None:
    for verb in ("plan", "create"):
        code, text = place.seed("overcloud", verb, place.wish(**told))
        assert code != 0
        assert field in " ".join(text.split())
        assert "try: the same verb with --help" in text
    for text in ("[", "- a", ""):
        (place.folder / "x.yaml").write_text(text)
        code, said = place.seed("overcloud", "create", str(place.folder / "x.yaml"))
        assert code == 2
        assert "x.yaml" in said.replace("\n", "")
    assert nothing_is_there(place.house)


def test_it_is_shown_resumed_and_used(place: Overclouds) -> None:
    house = place.house
    ready(house, options={"driver": "fake"})
    code, text = place.seed("overcloud", "show", "cloud")
    assert code == 0, text
    assert "Nova's fake driver: ACTIVE proves no guest" in " ".join(text.split())
    for word in ("hosts", "identity", "compute", "done", "cloud-compute-1", "joined"):
        assert word in text
    told = place.json("overcloud", "show", "cloud")
    assert told["settled"]
    assert [stage["state"] for stage in told["stages"]] == ["done"] * 7
    again = {key: value for key, value in told["spec"].items() if value not in (None, "")}
    (place.folder / "again.yaml").write_text(yaml.safe_dump(again))
    same = place.json("overcloud", "create", str(place.folder / "again.yaml"))
    assert same["id"] == told["id"], "what is shown can be sent again"

    code, text = place.seed("overcloud", "list")
    assert code == 0
    assert "cloud" in text
    assert place.json("cluster", "list") == []
    code, text = place.seed("cluster", "show", "cloud")
    assert code != 0
    assert "cloud is an overcloud, no cluster" in " ".join(text.split())

    code, text = place.seed("overcloud", "resume", "cloud")
    assert code != 0
    assert "no stage of cloud failed" in text
    code, _text = place.seed("overcloud", "resume", "cloud", "--stage", "network")
    assert code == 0
    states = {row.name: row.state for row in house.rows(OvercloudStage)}
    assert states["network"] is StageState.WAITING


def test_clouds_yaml_is_written_once_and_for_its_owner_alone(place: Overclouds) -> None:
    house, out = place.house, place.folder / "out"
    ready(house)

    with reconciled(place):
        code, text = place.seed("overcloud", "clouds", "cloud", "--out", str(out))
    assert code == 0, text
    file = out / "clouds.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    cloud = yaml.safe_load(file.read_text())["clouds"]["cloud"]
    assert cloud["auth"]["password"] not in text
    assert Path(cloud["cacert"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    code, text = place.seed("overcloud", "clouds", "cloud", "--out", str(out))
    assert code != 0
    assert "is there already" in " ".join(text.split())


def test_its_files_are_exported_without_a_secret(place: Overclouds) -> None:
    ready(place.house)
    to = place.folder / "export"
    code, text = place.seed("overcloud", "export", "cloud", "--to", str(to))
    assert code == 0, text
    hosts = yaml.safe_load((to / "inventory/hosts.yaml").read_text())["all"]["hosts"]
    assert sorted(hosts) == ["cloud-compute-0", "cloud-compute-1", "cloud-control-0"]
    assert not (to / "env/ssh_key").exists()
    assert not (to / "env/extravars").exists()
    code, text = place.seed("overcloud", "export", "cloud", "--to", str(to))
    assert code != 0
    assert "is there already" in " ".join(text.split())
    code, text = place.seed(
        "overcloud", "export", "cloud", "--format", "nonesuch", "--to", str(to / "x")
    )
    assert code != 0
    assert "there is no installer 'nonesuch'" in " ".join(text.split())


@pytest.mark.parametrize("name", sorted(INSTALLERS))
def test_every_installers_files_are_had_or_refused_in_a_sentence(
    place: Overclouds, name: str
) -> None:
    ready(place.house)
    to = place.folder / "export"
    words = ["overcloud", "export", "cloud", "--format", name, "--to", str(to)]
    code, text = place.seed(*words)
    if code == 0:
        assert list(to.rglob("*")), name
        return
    assert re.search(r"(networks|nodes|options|control|storage|network|layout)\S*: ", text), text
    assert not to.exists()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_row_is_given_or_says_what_it_lacks(place: Overclouds, name: str) -> None:
    ready(place.house)
    (told,) = [one for one in place.json("overcloud", "gives", "cloud") if one["name"] == name]
    to = place.folder / "given"
    code, text = place.seed("overcloud", "give", "cloud", name, "--to", str(to))
    assert (code == 0) is (told["lacks"] == ""), text
    assert (code == 0) is to.exists()
    if told["lacks"]:
        assert told["lacks"][:20] in " ".join(text.split())


def test_tripleos_file_begins_an_overclouds(place: Overclouds) -> None:
    file = place.folder / "baremetal_deployment.yaml"
    file.write_text("- name: Controller\n  count: 3\n- name: Compute\n  count: 2\n")
    code, text = place.seed("overcloud", "import", str(file), "--name", "old")
    assert code == 0, text
    assert "kolla-ansible" in text
    done = CliRunner().invoke(app, ["overcloud", "import", str(file)], env=place.env)
    told = yaml.safe_load(done.stdout)
    assert (told["control"]["count"], told["compute"]["count"]) == (3, 2)
    file.write_text("- [")
    code, text = place.seed("overcloud", "import", str(file))
    assert code != 0
    assert "baremetal_deployment.yaml" in text.replace("\n", "")


def test_it_is_scaled_after_a_plan_and_given_back(place: Overclouds) -> None:
    house = place.house
    ready(house)
    code, text = place.seed("overcloud", "scale", "cloud")
    assert code == 2
    assert "no role is named" in text
    code, text = place.seed("overcloud", "scale", "cloud", "--compute", "1", told="no\n")
    assert code != 0
    assert "Scale overcloud cloud" in " ".join(text.split())
    assert len(house.rows(Member)) == 3
    code, text = place.seed("overcloud", "scale", "cloud", "--compute", "1", "--yes")
    assert code == 0, text
    assert cluster(house).spec["compute"]["count"] == 1
    code, text = place.seed("overcloud", "replace", "cloud", "cloud-control-0", "--yes")
    assert code != 0
    assert "all databases are on it" in " ".join(text.split())
    code, text = place.seed("overcloud", "release", "cloud", "--yes", "--now")
    assert code == 0, text
    rounds(house, ClusterState.RELEASED)
    (row,) = house.rows(Cluster)
    assert row.ended_at
    shown = json.loads(json.dumps(place.json("overcloud", "list", "--ended")))
    assert [one["state"] for one in shown] == ["released"]


def test_a_plan_says_where_people_take_nodes_out(
    place: Overclouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(place.house)
    words = ("overcloud", "scale", "cloud", "--compute", "1")
    yours = "takes nobody out of OpenStack, that is yours: docs/overclouds.md"
    assert yours not in " ".join(place.seed(*words, told="no\n")[1].split())
    monkeypatch.setattr(type(INSTALLERS["debian"]), "leave", lambda *told: None)
    assert yours in " ".join(place.seed(*words, told="no\n")[1].split())
    code, text = place.seed("overcloud", "scale", "cloud", "--compute", "99", told="no\n")
    assert code != 0, "nobody leaves, and it cannot be had"
    assert yours not in " ".join(text.split())


def test_a_plan_for_one_that_was_given_back_looks_at_nothing_of_it(
    place: Overclouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(place.house)
    assert place.seed("overcloud", "release", "cloud", "--yes", "--now")[0] == 0
    rounds(place.house, ClusterState.RELEASED)
    (row,) = place.house.rows(Cluster)

    def gone(*told: object) -> str:
        raise KeyError("its network went since")

    monkeypatch.setattr("provisioning.overcloud_stages.of_people", gone)
    code, text = place.seed("overcloud", "scale", str(row.id), "--compute", "1", told="no\n")
    assert code != 0
    assert "is being released" in " ".join(text.split())


def test_installers_are_listed(place: Overclouds) -> None:
    code, text = place.seed("overcloud", "installers")
    assert code == 0
    assert "debian" in text
    done = CliRunner().invoke(app, ["overcloud", "installers", "-o", "json"], env=place.env)
    assert {"name": "debian", "runs": True, "services": ["horizon"]} in json.loads(done.stdout)
