"""Webhooks by the API and by the verbs: whose they are, what is shown once, what is refused."""

import json
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select
from typer.testing import CliRunner, Result

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import hooks
from provisioning.hook_delivery import Courier
from provisioning.hooks import Delivery, DeliveryState, Webhook
from provisioning.models import Event, now
from provisioning.secrets import Unsealer
from provisioning.store import record
from provisioning.tenants import Project
from seed.cli import app
from tests.contract.test_hook_delivery import LOOPBACK, carry
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.receiver import Receiver, receiving
from tests.fakes.serving import api_on_a_port

URL = "https://hooks.example.org/seed?key=in-the-url"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def web(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.WEB)) as client:
        yield client


@pytest.fixture
def callers(parts: Parts) -> dict[str, dict[str, str]]:
    return {
        "red": bearer(a_token(parts, "red", Role.CLAIMER, project="red")),
        "blue": bearer(a_token(parts, "blue", Role.CLAIMER, project="blue")),
        "operator": bearer(a_token(parts, "operator", Role.OPERATOR)),
    }


def ask(**more: Any) -> dict[str, Any]:
    return {"name": "ci", "url": URL} | more


def test_the_secret_is_shown_once_and_only_the_reconciler_reads_it(
    parts: Parts, web: TestClient, callers: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    answer = web.post("/v1/webhooks", json=ask(kinds=["claim."]), headers=callers["red"])
    assert answer.status_code == 201
    made = answer.json()
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    shown = [made[key] for key in ("project", "created_by", "pending", "dead")]
    assert shown == ["red", "red", 0, 0]
    rest = web.get("/v1/webhooks/ci", headers=callers["red"])
    assert rest.json() == made
    with parts.store.read() as session:
        row = session.exec(select(Webhook)).one()
        told = str([e.model_dump() for e in session.exec(select(Event))])
    assert secret not in rest.text + told + str(row.model_dump())
    assert "in-the-url" not in told
    opened = Unsealer(tmp_path / "master.key").open(row.sealed, hooks.purpose(row.id))
    assert opened == secret


def test_a_claimer_never_meets_anothers(
    parts: Parts, web: TestClient, callers: dict[str, dict[str, str]]
) -> None:
    made = web.post("/v1/webhooks", json=ask(), headers=callers["red"]).json()
    blue = callers["blue"]
    assert web.get("/v1/webhooks", headers=blue).json() == []
    for name in ("ci", made["id"]):
        paths = [("GET", ""), ("DELETE", ""), ("GET", "/deliveries")]
        paths += [("POST", f":{verb}") for verb in ("enable", "disable", "test", "redeliver")]
        for verb, path in paths:
            body = {"dead": True} if path == ":redeliver" else None
            answer = web.request(verb, f"/v1/webhooks/{name}{path}", headers=blue, json=body)
            nothing = web.request(verb, f"/v1/webhooks/nix{path}", headers=blue, json=body)
            assert (answer.status_code, nothing.status_code) == (404, 404), path
            assert answer.json()["code"] == nothing.json()["code"]
    # The name is free for everybody: that it is taken by another cannot be found out.
    assert web.post("/v1/webhooks", json=ask(), headers=blue).status_code == 201
    assert web.post("/v1/webhooks", json=ask(), headers=blue).status_code == 409
    wanted = web.post("/v1/webhooks", json=ask(name="x", project="red"), headers=blue)
    assert wanted.status_code == 403
    assert [h["project"] for h in web.get("/v1/webhooks", headers=blue).json()] == ["blue"]


def test_an_operator_has_all(
    parts: Parts, web: TestClient, callers: dict[str, dict[str, str]]
) -> None:
    operator = callers["operator"]
    for who in ("red", "blue", "operator"):
        assert web.post("/v1/webhooks", json=ask(), headers=callers[who]).status_code == 201
    found = web.get("/v1/webhooks", headers=operator).json()
    assert [h["project"] for h in found] == ["", "blue", "red"]
    assert web.get("/v1/webhooks/ci", headers=operator).status_code == 409  # of several projects
    assert web.delete(f"/v1/webhooks/{found[2]['id']}", headers=operator).status_code == 204
    unknown = web.post("/v1/webhooks", json=ask(project="green"), headers=operator)
    assert unknown.status_code == 404
    with parts.store.write() as session:
        session.add(Project(name="green"))
    assert web.post("/v1/webhooks", json=ask(project="green"), headers=operator).status_code == 201


BAD: list[dict[str, Any]] = [
    {"url": "http://hooks.example.org/"}, {"url": "https://u:p@hooks.example.org/"},
    {"url": "https://127.0.0.1/"}, {"url": "https://hooks.example.org/\r\nHost: evil"},
    {"url": 7}, {"url": None}, {"name": "../x"}, {"name": ""}, {"kinds": ["Claim"]},
    {"kinds": "claim."}, {"kinds": ["a"] * 21}, {"kinds": ["%"]}, {"more": 1}, {"project": ""},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_is_wrong_leaves_no_row(
    parts: Parts, web: TestClient, callers: dict[str, dict[str, str]], bad: dict[str, Any]
) -> None:
    answer = web.post("/v1/webhooks", json=ask(**bad), headers=callers["red"])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert "u:p" not in answer.text
    assert web.get("/v1/webhooks", headers=callers["red"]).json() == []
    with parts.store.read() as session:
        assert session.exec(select(Event)).all() == []


def test_there_is_an_end_of_them(
    parts: Parts, web: TestClient, callers: dict[str, dict[str, str]]
) -> None:
    codes = [
        web.post("/v1/webhooks", json=ask(name=f"n{n}"), headers=callers["red"]).status_code
        for n in range(hooks.MOST_PER_PROJECT + 1)
    ]
    assert codes == [201] * hooks.MOST_PER_PROJECT + [409]


def test_deliveries_are_listed_and_sent_once_more(
    parts: Parts, web: TestClient, callers: dict[str, dict[str, str]]
) -> None:
    red = callers["red"]
    identity = web.post("/v1/webhooks", json=ask(), headers=red).json()["id"]
    states = list(DeliveryState)
    with parts.store.write() as session:
        hook = hooks.find(session, "red", identity)
        for number, state in enumerate(states):
            record(session, "claim.moved", f"s{number}", project="red")
            session.flush()
            session.add(Delivery(webhook_id=hook.id, event_id=number + 2, state=state))
    path = "/v1/webhooks/ci/deliveries"
    listed = web.get(path, headers=red).json()
    assert [(d["event_id"], d["subject"], d["state"]) for d in listed] == [
        (4, "s2", "dead"), (3, "s1", "delivered"), (2, "s0", "pending"),
    ]  # fmt: skip
    assert [d["event_id"] for d in web.get(f"{path}?before=4&limit=1", headers=red).json()] == [3]
    assert [d["event_id"] for d in web.get(f"{path}?state=dead", headers=red).json()] == [4]
    assert web.get(f"{path}?state=lost", headers=red).status_code == 422
    again = "/v1/webhooks/ci:redeliver"
    assert web.post(again, json={}, headers=red).status_code == 422
    both = {"dead": True, "delivery": listed[0]["id"]}
    assert web.post(again, json=both, headers=red).status_code == 422
    assert web.post(again, json={"delivery": identity}, headers=red).status_code == 404
    assert web.post(again, json={"dead": True}, headers=red).json() == {"deliveries": 1}
    assert web.post(again, json={"delivery": listed[1]["id"]}, headers=red).json() == {
        "deliveries": 1
    }
    assert web.get("/v1/webhooks/ci", headers=red).json()["pending"] == 3
    assert web.delete("/v1/webhooks/ci", headers=red).status_code == 204
    with parts.store.read() as session:
        assert session.exec(select(Delivery)).all() == []


def test_disabled_and_enabled_by_the_api(
    parts: Parts, web: TestClient, callers: dict[str, dict[str, str]]
) -> None:
    red = callers["red"]
    web.post("/v1/webhooks", json=ask(), headers=red)
    for verb in ("disable", "disable", "enable", "enable"):
        answer = web.post(f"/v1/webhooks/ci:{verb}", headers=red)
        assert answer.status_code == 200
        assert (answer.json()["disabled_at"] is not None) is (verb == "disable")
        if verb == "disable":
            assert web.post("/v1/webhooks/ci:test", headers=red).status_code == 409
    with parts.store.read() as session:
        kinds = [e.kind for e in session.exec(select(Event))]
    assert kinds == ["webhook.created", "webhook.disabled", "webhook.enabled"]


# --- the verbs ------------------------------------------------------------------------------------

Verb = Callable[..., Result]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as found:
        yield found


@pytest.fixture
def seed(parts: Parts, tmp_path: Path) -> Iterator[Verb]:
    (tmp_path / "token").write_text(a_token(parts, "red", Role.CLAIMER, project="red"))
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        env = {
            "SEED_SERVER": url, "SEED_TOKEN_FILE": str(tmp_path / "token"), "COLUMNS": "80",
            "SEED_TOKEN_DIR": str(tmp_path / "own"),
        }  # fmt: skip
        yield lambda *words: CliRunner().invoke(app, words, env=env)


def test_the_verbs(parts: Parts, seed: Verb, receiver: Receiver, tmp_path: Path) -> None:
    made = seed("webhook", "create", "ci", receiver.url, "--kind", "claim.", "-o", "json")
    assert made.exit_code == 0, made.output
    file = Path(json.loads(made.stdout)["secret_file"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = file.read_text().strip()
    assert secret.startswith("whsec_")
    assert secret not in made.stdout
    again = seed("webhook", "create", "ci", receiver.url)
    assert (again.exit_code, file.read_text().strip()) == (2, secret)  # the file is kept
    refused = seed("webhook", "create", "plain", "http://hooks.example.org/")
    assert refused.exit_code == 1
    assert not (tmp_path / "own" / "plain.webhook").exists()

    courier = Courier(
        parts.store, Unsealer(tmp_path / "master.key").open, "https://seed",
        lambda address: False, receiver.trust, lambda host, port: LOOPBACK,
    )  # fmt: skip
    happened(parts)
    receiver.answer = lambda got, handler: 410
    carry(courier)
    dead = seed("webhook", "deliveries", "ci", "--dead")
    assert "it answered 410" in dead.stdout
    assert max(map(len, dead.stdout.splitlines())) <= 80
    listed = seed("webhook", "list")
    assert "disabled" in listed.stdout
    assert max(map(len, listed.stdout.splitlines())) <= 80
    receiver.answer = lambda got, handler: 204
    assert seed("webhook", "enable", "ci").exit_code == 0
    assert seed("webhook", "redeliver", "ci").exit_code == 2
    assert seed("webhook", "redeliver", "ci", "--dead").exit_code == 0
    carry(courier)
    assert len(receiver.got) == 2
    assert json.loads(seed("webhook", "show", "ci", "-o", "json").stdout)["dead"] == 0
    assert seed("webhook", "disable", "ci").exit_code == 0
    assert seed("webhook", "test", "ci").exit_code == 1
    assert seed("webhook", "delete", "ci").exit_code == 0
    assert seed("webhook", "show", "ci").exit_code == 1


def happened(parts: Parts) -> None:
    with parts.store.write() as session:
        record(session, "claim.active", "a", project="red", at=now().isoformat())


def test_a_test_is_waited_for(parts: Parts, seed: Verb, receiver: Receiver, tmp_path: Path) -> None:
    courier = Courier(
        parts.store, Unsealer(tmp_path / "master.key").open, "https://seed",
        lambda address: False, receiver.trust, lambda host, port: LOOPBACK,
    )  # fmt: skip
    assert seed("webhook", "create", "ci", receiver.url).exit_code == 0
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.1):
            carry(courier)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert "delivered" in seed("webhook", "test", "ci").stdout
        receiver.answer = lambda got, handler: 500
        failed = seed("webhook", "test", "ci")
        assert (failed.exit_code, "it answered 500" in failed.stderr) == (1, True)
    finally:
        stop.set()
        thread.join(20)
