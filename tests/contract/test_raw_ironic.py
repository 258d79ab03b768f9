"""/baremetal beyond reads, by HTTP: an operator's changes, break-glass, and the record of both."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning.models import Bmc, Event, Token, now
from provisioning.request_ids import for_ironic
from provisioning.room import Rotation
from provisioning.states import Login, RotationStep
from provisioning.tenants import BreakGlass
from tests.fakes.api import Asked, a_token, bearer, ironic_double, some_parts

UUID_1 = "3f0e3c5e-0000-4000-8000-000000000001"
WHY = "node n1 hangs in deploying, ticket 4711"
SECRET = "rescue-password-of-somebody"


@dataclass
class Site:
    """The API before one node of an Ironic double; `asked` is what reached that Ironic."""

    parts: Parts
    http: TestClient
    asked: list[Asked]
    node: dict[str, Any]
    refuse: int = 0
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)

    def call(self, who: str, method: str, path: str, body: Any = None, **more: str) -> Any:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body)
        headers = {**self.tokens[who], "content-type": "application/json", **more}
        return self.http.request(method, path, headers=headers, content=content)

    def raw(self, who: str, method: str, path: str, body: Any = None, **more: str) -> Any:
        return self.call(who, method, f"/baremetal/v1{path}", body, **more)

    def open(self, who: str = "destroyer") -> None:
        assert self.call(who, "POST", "/v1/break-glass", {"why": WHY}).status_code == 201

    def events(self, kind: str) -> list[Event]:
        with self.parts.store.read() as session:
            return list(session.exec(select(Event).where(Event.kind == kind).order_by("id")))

    def a_bmc(self, **more: Any) -> None:
        facts = {"address": "10.0.1.1", "protocol": "redfish", "node_name": "n1"}
        with self.parts.store.write() as session:
            session.add(Bmc(node_uuid=UUID(UUID_1), **facts | more))

    def sent(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method != "GET"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    node = {
        "uuid": UUID_1, "name": "n1", "maintenance": False, "maintenance_reason": None,
        "extra": {"seed": {"class": "gpu"}},
    }  # fmt: skip
    with ironic_double() as ironic:
        parts = some_parts(tmp_path, ironic.url)

        def answer(asked: Asked) -> tuple[int, dict[str, str], Any]:
            there = asked.path.split("?")[0] in ("/v1/nodes/n1", f"/v1/nodes/{UUID_1}")
            if asked.method == "GET":
                return (200, {}, node) if there else (404, {}, {"error_message": "no such node"})
            return found.refuse or 202, {"x-openstack-request-id": "req-of-ironic"}, {}

        ironic.answer = answer
        with TestClient(create_app(parts, Door.WEB)) as http:
            found = Site(parts, http, ironic.asked, node)
            found.tokens = {role: bearer(a_token(parts, role, role)) for role in Role}
            both = (Role.OPERATOR, Role.DESTROYER)
            found.tokens["both"] = bearer(a_token(parts, "both", *both))
            yield found


# --- operators ----------------------------------------------------------------------------------


def test_an_operator_sets_maintenance_and_it_is_recorded_before_it_is_sent(site: Site) -> None:
    answer = site.raw(
        "operator", "PUT", "/nodes/n1/maintenance", {"reason": "new fan"}, **{"X-Request-ID": "fan"}
    )
    assert answer.status_code == 202
    (asked,) = site.sent()
    assert (asked.method, asked.path) == ("PUT", f"/v1/nodes/{UUID_1}/maintenance")
    assert json.loads(asked.body) == {"reason": "new fan"}
    assert asked.headers["x-openstack-request-id"] == for_ironic("fan")
    (event,) = site.events("node.changed-raw")
    assert (event.subject, event.who, event.why) == (UUID_1, "operator", "new fan")
    assert (event.request_id, event.message) == ("fan", "maintenance begins")


def test_an_operator_ends_maintenance(site: Site) -> None:
    assert site.raw("operator", "DELETE", "/nodes/n1/maintenance").status_code == 202
    assert site.sent()[0].body == b""


def test_an_operator_describes(site: Site) -> None:
    ops = [{"op": "add", "path": "/extra/rack", "value": "r1"}]
    assert site.raw("operator", "PATCH", "/nodes/n1", ops).status_code == 202
    assert json.loads(site.sent()[0].body) == ops
    (event,) = site.events("node.changed-raw")
    assert (event.message, event.data["changed"]) == ("changes extra", ["/extra/rack"])


@pytest.mark.parametrize("who", ["viewer", "destroyer", "claimer"])
def test_nobody_else_does(site: Site, who: str) -> None:
    for method, path, body in (
        ("PUT", "/nodes/n1/maintenance", {}),
        ("DELETE", "/nodes/n1/maintenance", None),
        ("PATCH", "/nodes/n1", [{"op": "add", "path": "/extra/a", "value": 1}]),
    ):
        answer = site.raw(who, method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert not site.asked
    assert not site.events("node.changed-raw")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_node_that_is_not_there_is_ironics_404(site: Site, method: str) -> None:
    answer = site.raw("operator", method, "/nodes/n9/maintenance")
    assert (answer.status_code, answer.json()["error_message"]) == (404, "no such node")
    assert not site.events("node.changed-raw")


@pytest.mark.parametrize(
    ("row", "step"),
    [({"login": Login.REFUSED}, None), ({}, RotationStep.QUIET), ({}, RotationStep.SENT)],
)
def test_maintenance_stays_while_a_login_is_refused_or_changed(
    site: Site, row: dict[str, Any], step: RotationStep | None
) -> None:
    site.a_bmc(**row)
    if step:
        with site.parts.store.write() as session:
            bmc = session.exec(select(Bmc)).one()
            session.add(Rotation(bmc_id=bmc.id, step=step))
    for method in ("PUT", "DELETE"):
        answer = site.raw("operator", method, "/nodes/n1/maintenance")
        assert answer.status_code == 409
        assert "seed node show n1" in json.loads(answer.json()["error_message"])["faultstring"]
    assert not site.sent()
    assert not site.events("node.changed-raw")


@pytest.mark.parametrize("step", [RotationStep.ASKED, RotationStep.FAILED])
def test_a_change_of_login_that_does_not_move_is_no_reason(site: Site, step: RotationStep) -> None:
    site.a_bmc()
    with site.parts.store.write() as session:
        session.add(Rotation(bmc_id=session.exec(select(Bmc)).one().id, step=step))
    assert site.raw("operator", "DELETE", "/nodes/n1/maintenance").status_code == 202


# --- break-glass --------------------------------------------------------------------------------


def test_only_a_destroyer_with_a_reason_opens_it(site: Site) -> None:
    for who in ("viewer", "operator", "claimer"):
        assert site.call(who, "POST", "/v1/break-glass", {"why": WHY}).status_code == 403
    for why in ("", "short", "  spaces    ", "ends\nhere and more"):
        answer = site.call("destroyer", "POST", "/v1/break-glass", {"why": why})
        assert answer.status_code == 422
    assert site.call("viewer", "GET", "/v1/break-glass").json() == []
    site.open()
    assert site.call("claimer", "GET", "/v1/break-glass").status_code == 403
    (row,) = site.call("viewer", "GET", "/v1/break-glass").json()
    assert (row["who"], row["why"]) == ("destroyer", WHY)
    (event,) = site.events("break-glass.opened")
    assert (event.who, event.why) == ("destroyer", WHY)
    assert site.call("destroyer", "POST", "/v1/break-glass", {"why": WHY}).status_code == 409


def test_it_lasts_thirty_minutes(site: Site) -> None:
    site.open()
    with site.parts.store.read() as session:
        row = session.exec(select(BreakGlass)).one()
    assert timedelta(minutes=29, seconds=59) < row.until - row.opened_at <= timedelta(minutes=30)


def test_while_open_each_call_is_an_event_before_it_is_sent(site: Site) -> None:
    site.open()
    body = {"target": "rescue", "rescue_password": SECRET}
    answer = site.raw(
        "destroyer", "PUT", "/nodes/n1/states/provision?x=1", body, **{"X-Request-ID": "help"}
    )
    assert answer.status_code == 202
    (asked,) = site.sent()
    assert (asked.path, json.loads(asked.body)) == ("/v1/nodes/n1/states/provision?x=1", body)
    assert asked.headers["x-openstack-request-id"] == for_ironic("help")
    (event,) = site.events("break-glass.called")
    assert (event.who, event.why, event.request_id) == ("destroyer", WHY, "help")
    assert event.message == "PUT /v1/nodes/n1/states/provision"
    assert event.data["body_sha256"] == hashlib.sha256(asked.body).hexdigest()
    assert SECRET not in site.call("viewer", "GET", "/v1/events").text
    site.raw("destroyer", "GET", "/nodes/n1")
    assert [e.message for e in site.events("break-glass.called")][1:] == ["GET /v1/nodes/n1"]


def test_a_call_that_ironic_refuses_is_recorded_too(site: Site) -> None:
    site.open()
    site.refuse = 409
    assert site.raw("destroyer", "DELETE", "/ports/x").status_code == 409
    assert len(site.events("break-glass.called")) == 1


def test_it_is_open_for_that_caller_only(site: Site) -> None:
    site.open()
    for who in ("operator", "both", "viewer"):
        answer = site.raw(who, "PUT", "/nodes/n1/states/power", {"target": "power off"})
        assert answer.status_code == 403
    assert not site.sent()


def test_a_local_user_and_a_token_of_one_name_are_two(site: Site) -> None:
    site.tokens["root"] = bearer(a_token(site.parts, "root", Role.DESTROYER))
    with TestClient(create_app(site.parts, Door.LOCAL), client=("uid:0", 1)) as local:
        assert local.post("/v1/break-glass", json={"why": WHY}).status_code == 201
    power = {"target": "power off"}
    assert site.raw("root", "PUT", "/nodes/n1/states/power", power).status_code == 403
    (row,) = site.call("viewer", "GET", "/v1/break-glass").json()
    assert row["who"] == "root@local"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/lookup?addresses=x", None), ("GET", "/lookup.json?addresses=x", None),
        ("POST", "/heartbeat/x", {}), ("POST", "/continue_inspection", {}),
        ("POST", "/inspection_rules", {}), ("PATCH", "/inspection_rules/x", []),
        ("POST", "/deploy_templates", {}), ("POST", "/volume/targets", {}),
        ("GET", "/nodes?_method=delete", None), ("POST", "/nodes?_method=patch", {}),
        ("DELETE", "/nodes?node_ident=n1", None), ("DELETE", "/nodes", None),
        ("DELETE", "/inspection_rules", None),
        ("PUT", "/nodes/maintenance", {"node_ident": "n1"}),
        ("GET", "/nodes/vendor_passthru?node_ident=n1&method=x", None),
        ("PUT", "/nodes/states/power.json", {}), ("HEAD", "/nodes", None), ("OPTIONS", "", None),
        ("PATCH", "/nodes/n1", [
            {"op": "copy", "from": "/driver_info/redfish_password", "path": "/extra/x"}]),
        ("PATCH", "/nodes/n1", [
            {"op": "move", "from": "/driver_info/redfish_password", "path": "/description"}]),
        ("PATCH", "/nodes/n1", [
            {"op": "test", "path": "/driver_info/redfish_password", "value": "guess"}]),
        ("PATCH", "/nodes/n1", [
            {"op": "add", "path": "/driver_info/redfish_address", "value": "https://evil"}]),
        ("PATCH", "/nodes/n1", [{"op": "replace", "path": "/driver_info", "value": {}}]),
        ("PATCH", "/nodes/n1", [{"op": "replace", "path": "", "value": {}}]),
        ("PATCH", "/nodes/n1.json", [
            {"op": "add", "path": "/driver_info/ipmi_address", "value": "evil"}]),
        ("PATCH", "/nodes/n1", {}), ("PATCH", "/nodes/n1", [[]]), ("PATCH", "/nodes/n1", None),
        ("PUT", "/nodes/n1/states/power", b'{"target": "power on", "target": "power off"}'),
        ("PUT", "/nodes/n1/states/power", b"target=power+off"),
    ],
)  # fmt: skip
def test_what_not_even_break_glass_opens(site: Site, method: str, path: str, body: Any) -> None:
    site.open()
    answer = site.raw("destroyer", method, path, body)
    assert answer.status_code in (400, 403, 422), answer.text
    assert not site.asked
    assert not site.events("break-glass.called")


def test_ironic_reads_paths_without_their_version_too(site: Site) -> None:
    site.open()
    assert site.call("destroyer", "GET", "/baremetal/lookup?addresses=x").status_code == 403
    assert not site.asked


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/nodes", {"driver": "fake-hardware"}), ("GET", "/nodes/n1/states/console", None),
        ("POST", "/nodes/n1/vendor_passthru?method=send_raw", {"raw_bytes": "0x06"}),
        ("PATCH", "/nodes/n1", [{"op": "replace", "path": "/instance_uuid", "value": None}]),
        ("PATCH", "/nodes/n1", [
            {"op": "add", "path": "/driver_info/deploy_ramdisk", "value": "http://x"}]),
        ("DELETE", "/allocations/x", None), ("DELETE", "/ports/x", None),
        ("DELETE", "/inspection_rules/x", None), ("GET", "/nodes/detail?fields=name", None),
        ("DELETE", "/nodes/n1", None),
    ],
)  # fmt: skip
def test_what_it_opens(site: Site, method: str, path: str, body: Any) -> None:
    site.open()
    site.raw("destroyer", method, path, body)
    last = site.asked[-1]
    assert (last.method, last.path) == (method, f"/v1{path}")
    assert len(site.events("break-glass.called")) == 1


def test_seeds_own_node_is_forgotten_by_seed(site: Site) -> None:
    site.a_bmc()
    site.open()
    answer = site.raw("destroyer", "DELETE", "/nodes/n1")
    assert (answer.status_code, answer.json()["remedy"]) == (403, "seed bmc forget 10.0.1.1")
    assert not site.sent()


def power_off(site: Site, who: str = "destroyer") -> Any:
    return site.raw(who, "PUT", "/nodes/n1/states/power", {"target": "power off"})


def test_who_was_in_the_middle_reads_that_it_ran_out(site: Site) -> None:
    site.open()
    assert power_off(site).status_code == 202
    with site.parts.store.write() as session:
        session.exec(select(BreakGlass)).one().until = now() - timedelta(seconds=1)
    answer = power_off(site)
    assert answer.status_code == 403
    assert "ended at" in answer.json()["detail"]
    assert "was not sent" in answer.json()["detail"]
    assert answer.json()["remedy"].startswith("seed break-glass open")
    assert len(site.sent()) == 1
    assert site.call("viewer", "GET", "/v1/break-glass").json() == []


def test_who_never_had_it_reads_seeds_verb(site: Site) -> None:
    assert "seed claim create" in power_off(site).json()["remedy"]


def test_it_is_closed_early(site: Site) -> None:
    assert site.call("destroyer", "DELETE", "/v1/break-glass").status_code == 404
    site.open()
    assert site.call("destroyer", "DELETE", "/v1/break-glass").status_code == 204
    assert power_off(site).status_code == 403
    assert [e.message for e in site.events("break-glass.closed")] == ["closed by destroyer"]
    site.open()
    assert power_off(site).status_code == 202


def test_another_destroyer_closes_it(site: Site) -> None:
    site.open()
    answer = site.call("both", "DELETE", "/v1/break-glass?who=destroyer")
    assert answer.status_code == 204
    assert power_off(site).status_code == 403
    assert site.events("break-glass.closed")[0].who == "both"


def test_a_revoked_token_ends_it_for_good(site: Site) -> None:
    """Also for a new token of the same name."""
    site.open()
    assert site.call("both", "DELETE", "/v1/tokens/destroyer").status_code == 204
    assert power_off(site).status_code == 401
    assert site.call("viewer", "GET", "/v1/break-glass").json() == []
    site.tokens["destroyer"] = bearer(a_token(site.parts, "destroyer", Role.DESTROYER))
    assert power_off(site).status_code == 403


def test_a_lost_role_ends_it_for_good(site: Site) -> None:
    site.open()

    def roles(*now_has: Role) -> None:
        with site.parts.store.write() as session:
            token = session.exec(select(Token).where(Token.name == "destroyer")).one()
            token.roles = list(now_has)

    roles(Role.VIEWER)
    assert power_off(site).status_code == 403
    assert site.events("break-glass.closed")[0].why.endswith("the role destroyer any more")
    roles(Role.DESTROYER)
    assert power_off(site).status_code == 403
    assert not site.sent()


def test_an_event_that_cannot_be_written_stops_the_call(site: Site) -> None:
    site.open()
    with site.parts.store.engine.connect() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
        connection.commit()
    assert power_off(site).status_code == 503
    assert site.raw("operator", "DELETE", "/nodes/n1/maintenance").status_code == 503
    assert not site.sent()


def test_the_api_of_another_process_knows_it_too(site: Site) -> None:
    site.open()
    other = replace(site.parts)
    with TestClient(create_app(other, Door.WEB)) as http:
        answer = http.put(
            "/baremetal/v1/nodes/n1/states/power",
            json={"target": "power off"},
            headers=site.tokens["destroyer"],
        )
    assert answer.status_code == 202
