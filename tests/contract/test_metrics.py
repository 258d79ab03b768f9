"""/metrics as Prometheus reads it: by its own parser, for every number that is promised."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.gateway import create_gateway
from api.parts import Door, Parts
from api.roles import Role
from provisioning.hooks import Delivery, DeliveryState, Webhook
from provisioning.models import Bmc, Event, Order, now
from provisioning.sight import Pass, Sight
from provisioning.states import ClaimState, OrderKind
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.claims import SPACE, an_active_claim

Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Nobody answers for Ironic: nothing of this asks it."""
    return some_parts(tmp_path)


@pytest.fixture
def web(parts: Parts) -> Iterator[TestClient]:
    headers = bearer(a_token(parts, "prometheus", Role.VIEWER))
    with TestClient(create_app(parts, Door.WEB), headers=headers) as client:
        yield client


def scraped(web: TestClient) -> Numbers:
    answer = web.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def one(numbers: Numbers, name: str, **labels: str) -> float:
    return numbers[name, tuple(sorted(labels.items()))]


def test_an_empty_seed_has_numbers(web: TestClient) -> None:
    numbers = scraped(web)
    assert one(numbers, "seed_queue_length") == 0
    assert one(numbers, "seed_stuck", what="node") == 0
    assert one(numbers, "seed_webhook_deliveries", state="dead") == 0
    assert ("seed_sight_age_seconds", ()) not in numbers, "nothing was read yet"
    assert one(numbers, "process_cpu_seconds_total") > 0


def test_claims_queue_and_leases(parts: Parts, web: TestClient) -> None:
    soon, later = now() + timedelta(hours=23), now() + timedelta(days=2)
    an_active_claim(parts.store, "a", ends_at=soon, held_at=now())
    an_active_claim(parts.store, "b", ends_at=later, held_at=now())
    an_active_claim(parts.store, "c", ends_at=soon, renewed_to=later, held_at=now())
    an_active_claim(parts.store, "d", lease_seconds=3600, held_at=now(), project="other")
    an_active_claim(parts.store, "e", count=0, state=ClaimState.QUEUED, ends_at=soon)
    an_active_claim(parts.store, "f", count=0, state=ClaimState.RELEASED, ended_at=now())
    numbers = scraped(web)
    assert one(numbers, "seed_claims", state="active", project="default") == 3
    assert one(numbers, "seed_claims", state="active", project="other") == 1
    assert one(numbers, "seed_claims", state="queued", project="default") == 1
    assert ("seed_claims", (("project", "default"), ("state", "released"))) not in numbers
    assert one(numbers, "seed_queue_length") == 1
    assert one(numbers, "seed_leases_ending_within_day", project="default") == 1
    assert one(numbers, "seed_leases_ending_within_day", project="other") == 1


def test_nodes_as_they_were_seen(parts: Parts, web: TestClient) -> None:
    an_active_claim(parts.store, count=2)
    facts = {"provision_state": "active", "resource_class": "big", "maintenance": False}
    with parts.store.write() as session:
        for row in session.query(Sight).all():
            row.facts = facts
        session.add(Sight(node_uuid=SPACE, facts=facts | {"provision_state": "available"}))
        session.add(Pass(at=now() - timedelta(seconds=40)))
        bmc = session.query(Bmc).first()
        assert bmc
        bmc.problem = "no answer"
    numbers = scraped(web)
    common = {"resource_class": "big", "maintenance": "false"}
    assert one(numbers, "seed_nodes", provision_state="active", held="true", **common) == 2
    assert one(numbers, "seed_nodes", provision_state="available", held="false", **common) == 1
    assert 40 <= one(numbers, "seed_sight_age_seconds") < 100
    assert one(numbers, "seed_stuck", what="node") == 1


def test_orders_and_webhooks(parts: Parts, web: TestClient) -> None:
    an_active_claim(parts.store, count=2)  # its orders are closed
    with parts.store.write() as session:
        session.add(Order(node_uuid=SPACE, kind=OrderKind.CLEAN, generation=1, alarm="a stranger"))
        hook = Webhook(name="h", url="https://example.org", sealed=b"")
        events = [Event(kind="x") for _ in range(4)]
        session.add_all([hook, *events])
        session.flush()
        for event, state in zip(
            events, [DeliveryState.DEAD, DeliveryState.DEAD, *DeliveryState][:4], strict=True
        ):
            session.add(Delivery(webhook_id=hook.id, event_id=event.id or 0, state=state))
    numbers = scraped(web)
    assert one(numbers, "seed_orders", kind="clean", alarm="true") == 1
    assert ("seed_orders", (("alarm", "false"), ("kind", "deploy"))) not in numbers
    assert one(numbers, "seed_webhook_deliveries", state="dead") == 2
    assert one(numbers, "seed_webhook_deliveries", state="pending") == 1


def test_requests_count_by_route_and_never_by_path(parts: Parts, web: TestClient) -> None:
    for number in range(20):
        assert web.get(f"/v1/claims/no-such-{number}").status_code == 404
        assert web.get(f"/v1/no-such-{number}").status_code == 404
        assert web.request(f"X{number}", "/v1/claims").status_code in (404, 405)
    assert web.get("/v1/claims", headers={"Authorization": "x"}).status_code == 401
    numbers = scraped(web)
    route = "/v1/claims/{name}"
    assert one(numbers, "seed_http_requests_total", route=route, method="GET", status="404") == 20
    assert one(numbers, "seed_http_request_seconds_count", route=route, method="GET") == 20
    seen = [dict(labels) for name, labels in numbers if name == "seed_http_requests_total"]
    assert len(seen) <= 6
    assert {"route": "none", "method": "GET", "status": "401"} in seen
    assert all("no-such" not in labels["route"] for labels in seen)
    assert {labels["method"] for labels in seen} == {"GET", "other"}


def test_what_broke_counts_too(parts: Parts, web: TestClient) -> None:
    """Ironic is down: 503, made by the outermost net."""
    assert web.get("/baremetal/v1/nodes").status_code == 503
    assert one(scraped(web), "seed_http_requests_total",
               route="/baremetal{path:path}", method="GET", status="503") == 1  # fmt: skip


def test_both_doors_are_counted_in_one(parts: Parts, web: TestClient) -> None:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as local:
        assert local.get("/v1/claims").status_code == 200
    assert one(scraped(web), "seed_http_requests_total",
               route="/v1/claims", method="GET", status="200") == 1  # fmt: skip


def test_the_node_gateway_counts_too(parts: Parts, web: TestClient) -> None:
    """Refusals among them: many of one route are worth an alarm."""
    with TestClient(create_gateway(parts)) as node:
        for _ in range(2):
            node.get("/v1/lookup", params={"addresses": "52:54:00:00:00:01"},
                     headers={"x-real-ip": "172.22.0.77"})  # fmt: skip
            assert node.get(f"/v1/{SPACE}").status_code == 404
    numbers = scraped(web)
    key = {"route": "/v1/lookup", "method": "GET"}
    assert one(numbers, "seed_http_requests_total", status="404", **key) == 2
    assert one(numbers, "seed_http_request_seconds_count", **key) == 2
    assert one(numbers, "seed_http_requests_total", route="none", method="GET", status="404") == 2
    assert not any(str(SPACE) in value for _, labels in numbers for _, value in labels)


def test_openmetrics_where_it_is_asked_for(web: TestClient) -> None:
    answer = web.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics.text_string_to_metric_families(answer.text)}
    assert {"seed_queue_length", "seed_http_requests"} <= names


def test_a_claimer_is_told_no_numbers_of_others(parts: Parts, web: TestClient) -> None:
    claimer = bearer(a_token(parts, "claimer", Role.CLAIMER))
    assert web.get("/metrics", headers=claimer).status_code == 403
    assert web.get("/metrics", headers={"Authorization": ""}).status_code == 401


def test_odd_words_are_escaped(parts: Parts, web: TestClient) -> None:
    odd = 'a"b\\c\nd'
    facts = {"provision_state": "active", "resource_class": odd, "maintenance": True}
    with parts.store.write() as session:
        session.add(Sight(node_uuid=SPACE, facts=facts))
    assert one(scraped(web), "seed_nodes", provision_state="active", held="false",
               maintenance="true", resource_class=odd) == 1  # fmt: skip
