"""Projects, quotas, users, their sessions, and tokens that are good for less than everything."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import extract_parameters
from fastapi import APIRouter, Request
from fastapi.testclient import TestClient
from sqlmodel import select

from api import app as api_app
from api.app import create_app
from api.auth import Anyone
from api.parts import Door, Parts
from api.roles import Role, allows, noun_of, within
from provisioning import users
from provisioning.models import Claim, Event, Token, now
from provisioning.tenants import User
from tests.fakes.api import a_project, a_token, bearer, some_parts

V, C, O, D = Role.VIEWER, Role.CLAIMER, Role.OPERATOR, Role.DESTROYER  # noqa: E741
PASSWORD = "correct horse battery"
OTHER = "purple fish on bicycles"


@dataclass
class Room:
    """An API on the web and on the local socket as root, with the projects web and db."""

    parts: Parts
    web: TestClient
    root: TestClient

    def user(self, name: str, *roles: Role, project: str = "web") -> None:
        body = {"name": name, "password": PASSWORD, "roles": list(roles), "project": project}
        made = self.root.post("/v1/users", json=body)
        assert made.status_code == 201, made.text

    def login(self, name: str, password: str = PASSWORD) -> dict[str, str]:
        answer = self.web.post("/v1/sessions", json={"user": name, "password": password})
        assert answer.status_code == 201, answer.text
        return bearer(answer.json()["token"])

    def tried(self, name: str, password: str) -> int:
        body = {"user": name, "password": password}
        return self.web.post("/v1/sessions", json=body).status_code

    def mint(self, headers: dict[str, str], **asked: object) -> Any:
        body = {"name": "web.new", "roles": ["claimer"], "project": "web", **asked}
        return self.web.post("/v1/tokens", json=body, headers=headers)

    def unblock(self, name: str) -> None:
        """As if the time were over."""
        with self.parts.store.write() as session:
            session.get_one(User, name).blocked_until = None


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    parts = some_parts(tmp_path)
    for name in ("web", "db"):
        a_project(parts, name)
    with (
        TestClient(create_app(parts, Door.WEB)) as web,
        TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as root,
    ):
        yield Room(parts, web, root)


# --- projects -----------------------------------------------------------------------------------


def test_a_project_from_creation_to_removal(room: Room) -> None:
    made = room.root.post("/v1/projects", json={"name": "ai", "description": "models"})
    assert (made.status_code, made.json()["max_priority"]) == (201, 0)
    assert room.root.post("/v1/projects", json={"name": "ai"}).status_code == 409
    changed = room.root.patch("/v1/projects/ai", json={"max_priority": 7, "max_lease_seconds": 60})
    assert changed.json()["max_lease_seconds"] == 60
    assert changed.json()["description"] == "models"
    assert room.root.post("/v1/projects/ai:disable", json={}).json()["disabled_at"]
    assert room.root.post("/v1/projects/ai:enable", json={}).json()["disabled_at"] is None
    names = [p["name"] for p in room.root.get("/v1/projects").json()]
    assert names == ["ai", "db", "default", "web"]
    assert room.root.delete("/v1/projects/ai").status_code == 204
    assert room.root.get("/v1/projects/ai").json()["remedy"] == "`seed project create ai`"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "../x"},
        {"name": "Web"},
        {"name": "x" * 60},
        {"name": "a\r\nb"},
        {"name": "ok", "max_priority": 101},
        {"name": "ok", "max_lease_seconds": -1},
        {"name": "ok", "max_lease_seconds": 10 * 365 * 86400 + 1},
        {"name": "ok", "description": "x" * 256},
        {"name": "ok", "disabled_at": None},
        {"name": "ok", "description": "two\nlines"},
        {"name": "ok", "description": "\x1b[2J"},
        {"name": "ok", "description": "\u202egnp.exe"},
    ],
)
def test_a_wrong_project_is_refused_and_not_made(room: Room, body: dict[str, object]) -> None:
    assert room.root.post("/v1/projects", json=body).status_code == 422
    assert len(room.root.get("/v1/projects").json()) == 3


def test_a_project_stays_while_something_living_names_it(room: Room) -> None:
    with room.parts.store.write() as session:
        claim = Claim(name="one", image="debian", project="web")
        session.add(claim)
        claim_id = claim.id
    room.user("alice", C)
    a_token(room.parts, "ci", C, project="web")
    a_token(room.parts, "gone", C, project="web", days=-1)
    room.root.put("/v1/projects/web/quotas/gpu", json={"nodes": 1})
    refused = room.root.delete("/v1/projects/web")
    assert refused.status_code == 409
    assert refused.json()["detail"].endswith("claim one, user alice, token ci")
    with room.parts.store.write() as session:
        session.get_one(Claim, claim_id).ended_at = now()
    room.root.delete("/v1/users/alice")
    room.root.delete("/v1/tokens/ci")
    assert room.root.delete("/v1/projects/web").status_code == 204
    assert room.root.delete("/v1/projects/default").status_code == 409


def test_nothing_new_goes_into_an_unknown_or_disabled_project(room: Room) -> None:
    room.root.post("/v1/projects/db:disable", json={})
    for path, more in (("/v1/tokens", {}), ("/v1/users", {"password": PASSWORD})):
        body = {"name": "new", "roles": ["claimer"], **more}
        unknown = room.root.post(path, json={**body, "project": "wbe"})
        assert (unknown.status_code, unknown.json()["remedy"]) == (
            404,
            "`seed project create wbe`",
        )
        disabled = room.root.post(path, json={**body, "project": "db"})
        assert (disabled.status_code, disabled.json()["remedy"]) == (
            409,
            "`seed project enable db`",
        )


def test_a_claimer_sees_its_own_project_and_its_own_numbers(room: Room) -> None:
    with room.parts.store.write() as session:
        for project, count in (("web", 2), ("db", 40)):
            session.add(
                Claim(name="c", image="debian", project=project, resource_class="gpu", count=count)
            )
    for project in ("web", "db"):
        room.root.put(f"/v1/projects/{project}/quotas/gpu", json={"nodes": 50})
        room.root.put(f"/v1/projects/{project}/quotas/*", json={"nodes": 60})
    web = bearer(a_token(room.parts, "w", C, project="web"))
    (own,) = room.web.get("/v1/projects", headers=web).json()
    assert (own["name"], own["held"]) == ("web", {"gpu": 2})
    assert own["quotas"] == [
        {"resource_class": "*", "nodes": 60, "held": 2},
        {"resource_class": "gpu", "nodes": 50, "held": 2},
    ]
    assert room.web.get("/v1/projects/web/quotas", headers=web).json() == own["quotas"]
    for path in ("/v1/projects/db", "/v1/projects/db/quotas"):
        other = room.web.get(path, headers=web)
        nowhere = room.web.get(path.replace("db", "nix"), headers=web)
        assert (other.status_code, nowhere.status_code) == (404, 404)
        assert other.json()["detail"].replace("db", "nix") == nowhere.json()["detail"]
    assert room.web.patch("/v1/projects/web", json={}, headers=web).status_code == 403


def test_quotas_are_put_and_removed(room: Room) -> None:
    path = "/v1/projects/web/quotas"
    assert room.root.put(f"{path}/gpu", json={"nodes": 3}).json()["nodes"] == 3
    assert room.root.put(f"{path}/gpu", json={"nodes": 4}).json()["nodes"] == 4
    assert [q["nodes"] for q in room.root.get(path).json()] == [4]
    assert room.root.delete(f"{path}/gpu").status_code == 204
    assert room.root.delete(f"{path}/gpu").status_code == 404
    assert room.root.put("/v1/projects/nix/quotas/gpu", json={"nodes": 3}).status_code == 404
    for nodes in (-1, 2**31, "many", 1.5, None):
        assert room.root.put(f"{path}/gpu", json={"nodes": nodes}).status_code == 422
    for name in ("a b", "-rf", "x" * 81, "**"):
        assert room.root.put(f"{path}/{name}", json={"nodes": 1}).status_code == 422
    assert room.root.get(path).json() == []


# --- users and sessions -------------------------------------------------------------------------


def test_a_user_logs_in_and_out(room: Room) -> None:
    room.user("alice", C)
    alice = room.login("alice")
    assert room.web.get("/v1/projects", headers=alice).json()[0]["name"] == "web"
    assert room.web.get("/v1/users/alice", headers=alice).json()["sessions"] == 1
    assert room.web.delete("/v1/sessions/current", headers=alice).status_code == 204
    assert room.web.get("/v1/projects", headers=alice).status_code == 401
    assert room.root.delete("/v1/sessions/current").status_code == 409
    ci = bearer(a_token(room.parts, "ci", C))
    assert room.web.delete("/v1/sessions/current", headers=ci).status_code == 409
    assert room.web.get("/v1/projects", headers=ci).status_code == 200


def test_what_a_user_does_is_recorded_under_its_name(room: Room) -> None:
    room.user("olga", O)
    room.web.post("/v1/projects", json={"name": "new"}, headers=room.login("olga"))
    with room.parts.store.read() as session:
        (made,) = session.exec(select(Event).where(Event.kind == "project.created")).all()
    assert (made.who, made.subject) == ("olga", "new")


def test_no_password_comes_out_anywhere(room: Room, tmp_path: Path) -> None:
    room.user("alice", C)
    alice = room.login("alice")
    told = [room.root.get(path).text for path in ("/v1/users", "/v1/users/alice", "/v1/events")]
    told.append(room.web.get("/v1/tokens", headers=alice).text)
    wrong = {"name": "x y", "password": PASSWORD, "roles": ["king"]}
    told.append(room.root.post("/v1/users", json=wrong).text)
    assert not [text for text in told if "horse" in text or "argon2" in text]
    written = b"".join(file.read_bytes() for file in tmp_path.glob("seed.db*"))
    assert b"horse" not in written
    assert b"$argon2id$" in written
    assert alice["Authorization"].removeprefix("Bearer ").encode() not in written


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("short", "12 characters"),
        ("12345678901", "12 characters"),
        ("x" * 1025, "password: "),
        ("ü" * 600, "1024 bytes"),
        ("alice-in-wonderland", "the user's name"),
        ("Alice-In-Wonderland", "the user's name"),
        ("", "password: "),
        ("\ud800" * 12, "password: "),
        (None, "password: "),
        ([PASSWORD], "password: "),
    ],
)
def test_what_is_no_password(room: Room, password: object, says: str) -> None:
    body = {"name": "alice-in-wonderland", "password": password, "roles": ["claimer"]}
    headers = {"content-type": "application/json"}
    answer = room.root.post("/v1/users", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert room.root.get("/v1/users").json() == []


def test_one_letter_written_in_two_ways_is_one_letter(room: Room) -> None:
    body = {"name": "u", "password": "Schl\u00fcsselbund", "roles": ["viewer"]}
    assert room.root.post("/v1/users", json=body).status_code == 201
    assert room.tried("u", "Schlu\u0308sselbund") == 201


def test_unknown_names_and_wrong_passwords_are_answered_alike(room: Room) -> None:
    room.user("alice", C)
    answers = [
        room.web.post("/v1/sessions", json={"user": name, "password": OTHER})
        for name in ("alice", "nobody")
        for _ in range(users.FREE_TRIES + 2)
    ]
    told = [
        (a.status_code, a.json()["detail"].replace("alice", "nobody"), a.headers.get("retry-after"))
        for a in answers
    ]
    half = len(told) // 2
    assert [t[:2] for t in told[:half]] == [t[:2] for t in told[half:]]
    assert [t[0] for t in told[:half]] == [401] * (users.FREE_TRIES + 1) + [429]
    assert all(0 < int(t[2]) <= users.FIRST_BLOCK for t in told if t[0] == 429)


def test_the_hash_of_nobody_costs_what_a_users_does(room: Room) -> None:
    room.user("alice", C)
    with room.parts.store.read() as session:
        kept = session.get_one(User, "alice").password_hash
    assert extract_parameters(kept) == extract_parameters(users._NOBODYS)


def test_blocks_grow_and_end_with_the_right_password(room: Room) -> None:
    room.user("alice", C)
    seen = []
    for _ in range(users.FREE_TRIES + 3):
        assert room.tried("alice", OTHER) == 401
        until = room.root.get("/v1/users/alice").json()["blocked_until"]
        seen.append(bool(until))
        if until:
            assert room.tried("alice", PASSWORD) == 429
        room.unblock("alice")
    assert seen == [False] * users.FREE_TRIES + [True] * 3
    assert room.tried("alice", PASSWORD) == 201
    for _ in range(users.FREE_TRIES):
        assert room.tried("alice", OTHER) == 401
    assert room.root.get("/v1/users/alice").json()["blocked_until"] is None


def test_block_seconds() -> None:
    assert [users.block_seconds(n) for n in (0, 4, 5, 6, 7, 11, 12, 10**9)] == [
        0, 0, 10, 20, 40, 640, 900, 900,
    ]  # fmt: skip


def test_no_more_than_two_passwords_are_computed_at_once(room: Room) -> None:
    room.user("alice", C)
    porter, hold = room.parts.porter, threading.Event()
    inside = threading.Semaphore(0)

    def occupy() -> None:
        with porter._turn():
            inside.release()
            hold.wait(30)

    threads = [threading.Thread(target=occupy) for _ in range(users.AT_ONCE)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=30)
    refused = room.web.post("/v1/sessions", json={"user": "alice", "password": PASSWORD})
    hold.set()
    for thread in threads:
        thread.join()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert room.tried("alice", PASSWORD) == 201
    assert room.root.get("/v1/users/alice").json()["blocked_until"] is None


def test_a_disabled_user_is_out_at_once(room: Room) -> None:
    room.user("alice", C)
    alice = room.login("alice")
    own = bearer(room.mint(alice).json()["token"])
    assert room.web.get("/v1/claims", headers=own).status_code == 200
    assert room.root.post("/v1/users/alice:disable", json={}).json()["sessions"] == 0
    assert room.web.get("/v1/claims", headers=alice).status_code == 401
    assert room.web.get("/v1/claims", headers=own).status_code == 401
    assert room.tried("alice", PASSWORD) == 401
    room.root.post("/v1/users/alice:enable", json={})
    assert room.tried("alice", PASSWORD) == 201


def test_a_new_password_ends_all_sessions(room: Room) -> None:
    room.user("alice", C)
    alice, elsewhere = room.login("alice"), room.login("alice")
    path = "/v1/users/alice/password"
    for body in ({"password": OTHER}, {"password": OTHER, "old": OTHER}):
        assert room.web.put(path, json=body, headers=alice).status_code == 422
    changed = room.web.put(path, json={"password": OTHER, "old": PASSWORD}, headers=alice)
    assert changed.status_code == 204
    for headers in (alice, elsewhere):
        assert room.web.get("/v1/claims", headers=headers).status_code == 401
    assert (room.tried("alice", PASSWORD), room.tried("alice", OTHER)) == (401, 201)


def test_nobody_resets_the_password_of_somebody_who_may_more(room: Room) -> None:
    room.user("dora", D)
    room.user("alice", C)
    room.user("cleo", C, project="db")
    operator = bearer(a_token(room.parts, "op", O, C, project="web"))

    def reset(name: str) -> int:
        body = {"password": OTHER}
        path = f"/v1/users/{name}/password"
        return room.web.put(path, json=body, headers=operator).status_code

    assert (reset("dora"), reset("cleo"), reset("alice"), reset("nix")) == (403, 403, 204, 404)
    assert room.tried("alice", OTHER) == 201
    assert room.tried("dora", PASSWORD) == 201


def test_nobody_makes_users_that_may_more(room: Room) -> None:
    operator = bearer(a_token(room.parts, "op", O, C, project="web"))

    def make(**asked: object) -> int:
        body = {"name": "new", "password": PASSWORD, "roles": ["claimer"], "project": "web"}
        return room.web.post("/v1/users", json=body | asked, headers=operator).status_code

    assert make(roles=["destroyer"]) == 403
    assert make(project="db") == 403
    assert (make(), make()) == (201, 409)
    assert (make(name="op"), make(name="root")) == (409, 409)
    assert room.mint(operator, name="new").status_code == 409


def test_a_claimer_does_not_learn_who_else_there_is(room: Room) -> None:
    room.user("alice", C)
    room.user("cleo", C, project="db")
    alice = room.login("alice")
    body = {"password": OTHER, "old": OTHER}
    for name in ("cleo", "nobody"):
        assert room.web.get(f"/v1/users/{name}", headers=alice).status_code == 404
        path = f"/v1/users/{name}/password"
        assert room.web.put(path, json=body, headers=alice).status_code == 404
    assert room.web.get("/v1/users", headers=alice).status_code == 403


def test_too_many_sessions_end_the_oldest(room: Room) -> None:
    room.user("alice", C)
    with room.parts.store.read() as session:
        alice = session.get_one(User, "alice")
    for _ in range(users.SESSIONS + 2):
        users.open_session(room.parts.store, alice)
    with room.parts.store.read() as session:
        assert len(session.exec(select(Token).where(Token.user == "alice")).all()) == users.SESSIONS


# --- tokens -------------------------------------------------------------------------------------


def test_scopes_by_method_and_noun() -> None:
    assert noun_of("/v1/claims/web:release") == noun_of("/v1/claims:explain") == "claims"
    assert noun_of("/baremetal/v1/nodes") == "baremetal"
    for scopes, method, path, good in [
        ((), "DELETE", "/v1/claims/x", True),
        (("claims",), "DELETE", "/v1/claims/x", True),
        (("claims:read",), "GET", "/v1/claims/x", True),
        (("claims:read",), "HEAD", "/v1/claims", True),
        (("claims:read",), "POST", "/v1/claims:explain", False),
        (("claims",), "GET", "/v1/claimsx", False),
        (("claims",), "GET", "/v1/../claims", False),
        (("claims",), "GET", "//v1/claims", False),
        (("baremetal:read",), "GET", "/baremetal/v1/nodes", True),
        (("nodes",), "GET", "/baremetal/v1/nodes", False),
    ]:
        assert allows(scopes, method, path) is good, (scopes, method, path)


def test_scopes_only_narrow() -> None:
    assert within(["a"], [])
    assert within(["a:read", "b"], ["a", "b"])
    assert not within([], ["a"])
    assert not within(["a"], ["a:read"])
    assert not within(["a", "b"], ["a"])


def test_a_scoped_token_is_good_for_its_nouns_only(room: Room) -> None:
    made = room.root.post(
        "/v1/tokens",
        json={"name": "eye", "roles": ["operator"], "scopes": ["events:read", "projects"]},
    )
    eye = bearer(made.json()["token"])
    assert room.web.get("/v1/events", headers=eye).status_code == 200
    assert room.web.post("/v1/projects", json={"name": "n"}, headers=eye).status_code == 201
    for path in ("/v1/claims", "/v1/openapi.json", "/v1/nix", "/baremetal/v1/nodes", "/"):
        refused = room.web.get(path, headers=eye)
        assert refused.status_code == 403
        assert "good for events:read, projects only" in refused.json()["detail"]
    wrong = {"name": "x", "roles": ["operator"], "scopes": ["claim"]}
    assert "there are: adoptions, baremetal" in room.root.post("/v1/tokens", json=wrong).text
    for scope in ("claims:write", "", "CLAIMS", "*", "claims:read\n"):
        wrong["scopes"] = [scope]
        assert room.root.post("/v1/tokens", json=wrong).status_code == 422


def test_a_scoped_token_makes_no_wider_one(room: Room) -> None:
    made = room.root.post(
        "/v1/tokens",
        json={"name": "m", "roles": ["operator"], "scopes": ["tokens", "claims:read"]},
    )
    minter = bearer(made.json()["token"])

    def ask(scopes: list[str]) -> int:
        asked = {"name": "made", "roles": ["operator"], "project": "default", "scopes": scopes}
        return int(room.mint(minter, **asked).status_code)

    assert (ask([]), ask(["nodes"]), ask(["claims"])) == (403, 403, 403)
    assert ask(["claims:read"]) == 201


def test_a_claimer_makes_tokens_for_itself_only(room: Room) -> None:
    alice = bearer(a_token(room.parts, "alice", C, V, project="web", days=8))
    assert room.mint(alice, roles=["claimer", "viewer"]).status_code == 403
    assert room.mint(alice, roles=["viewer"]).status_code == 403
    assert room.mint(alice, project="db").status_code == 403
    assert room.mint(alice, days=9).status_code == 403
    assert room.mint(alice, days=367).status_code == 422
    assert room.mint(alice, days=7).json()["created_by"] == "alice"
    assert room.mint(alice).status_code == 409
    longest = room.mint(alice, name="web.longest").json()
    assert longest["expires_at"] == room.root.get("/v1/tokens").json()[0]["expires_at"]


def test_a_session_makes_tokens_that_outlive_it(room: Room) -> None:
    room.user("alice", C)
    made = room.mint(room.login("alice"), days=366)
    assert made.status_code == 201
    assert room.root.get("/v1/users/alice").json()["tokens"] == ["web.new"]


def test_a_claimer_learns_of_no_other_token(room: Room) -> None:
    a_token(room.parts, "db.secret-name", C, project="db")
    a_token(room.parts, "secret-name", C, project="db")
    alice = bearer(a_token(room.parts, "alice", C, project="web"))
    room.mint(alice)
    listed = room.web.get("/v1/tokens", headers=alice).json()
    assert [token["name"] for token in listed] == ["alice", "web.new"]
    answers = {
        name: (
            room.mint(alice, name=name).json()["code"],
            room.web.delete(f"/v1/tokens/{name}", headers=alice).status_code,
        )
        for name in ("db.secret-name", "secret-name", "no-such")
    }
    assert set(answers.values()) == {("invalid", 404)}


def test_what_a_revoked_token_made_for_itself_is_revoked_too(room: Room) -> None:
    first = bearer(a_token(room.parts, "first", C, project="web"))
    second = bearer(room.mint(first, name="web.second").json()["token"])
    third = bearer(room.mint(second, name="web.third").json()["token"])
    assert room.web.get("/v1/claims", headers=third).status_code == 200
    assert room.web.delete("/v1/tokens/first", headers=first).status_code == 204
    for headers in (first, second, third):
        assert room.web.get("/v1/claims", headers=headers).status_code == 401


def test_an_answer_that_lasts_can_ask_whether_its_caller_is_still_known(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = APIRouter()

    @router.get("/v1/lasting")
    async def lasting(caller: Anyone, request: Request) -> str:
        await request.state.identify()
        assert room.root.delete("/v1/tokens/ci").status_code == 204
        await request.state.identify()
        return "still there"

    monkeypatch.setattr(api_app, "ROUTERS", (*api_app.ROUTERS, router))
    ci = bearer(a_token(room.parts, "ci", C))
    with TestClient(create_app(room.parts, Door.WEB)) as web:
        assert web.get("/v1/lasting", headers=ci).status_code == 401


def test_many_guesses_at_once_are_counted_before_they_are_made(room: Room) -> None:
    room.user("alice", C)
    statuses: list[int] = []

    def guess() -> None:
        statuses.append(room.tried("alice", OTHER))

    while statuses.count(401) <= users.FREE_TRIES:
        threads = [threading.Thread(target=guess) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses.count(401) == users.FREE_TRIES + 1
    assert room.tried("alice", PASSWORD) == 429


def test_what_a_minter_made_for_others_goes_on(room: Room) -> None:
    minter = bearer(a_token(room.parts, "op", O, C, project="web"))
    other = bearer(room.mint(minter, name="ci").json()["token"])
    room.root.delete("/v1/tokens/op")
    assert room.web.get("/v1/claims", headers=other).status_code == 200


def test_last_use_is_kept_to_the_minute_with_one_write(room: Room) -> None:
    ci = bearer(a_token(room.parts, "ci", C))
    assert room.root.get("/v1/tokens").json()[0]["last_used_at"] is None
    assert room.web.get("/v1/claims", headers=ci).status_code == 200
    first = room.root.get("/v1/tokens").json()[0]["last_used_at"]
    assert first is not None
    assert first.endswith(":00Z")
    with room.parts.store.write() as session:  # what is not written again stays as it is put here
        row = session.exec(select(Token)).one()
        row.last_used_at = later = now() + timedelta(minutes=2)
    for _ in range(3):
        room.web.get("/v1/claims", headers=ci)
    with room.parts.store.read() as session:
        assert session.exec(select(Token)).one().last_used_at == later
