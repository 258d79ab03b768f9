"""/metrics for Prometheus: what our own rows say, and this process. Ironic is never asked."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlmodel import Session, col

from api.auth import Insider
from api.parts import Here
from api.traffic import Traffic
from provisioning.hooks import Delivery, DeliveryState
from provisioning.models import Bmc, Claim, Hold, Order, now
from provisioning.sight import Pass, Sight
from provisioning.states import ClaimState, Wanted
from provisioning.store import Store

router = APIRouter(tags=["health"])
SOON: Final = timedelta(days=1)


@router.get("/metrics", response_class=Response)
def metrics(caller: Insider, parts: Here, request: Request) -> Response:
    """Numbers in Prometheus' text format, or in OpenMetrics where that is asked for."""
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    registry = CollectorRegistry()
    registry.register(Rows(parts.store))
    registry.register(_Counted(parts.traffic))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return Response(encode(registry), media_type=media_type)


class _Counted(Collector):
    """This process's requests."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def collect(self) -> Iterable[Any]:
        return self._traffic.registry.collect()


class Rows(Collector):
    """Gauges of the database as it is at this moment: one snapshot, a query each."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> list[Any]:
        return []  # else it is asked for its numbers once more, to see their names

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._store.read() as session:
            yield _claims(session)
            yield _queue(session)
            yield _leases(session)
            yield _nodes(session)
            yield _stuck(session)
            yield from _sight(session)
            yield _orders(session)
            yield _deliveries(session)


def _claims(session: Session) -> GaugeMetricFamily:
    rows = session.execute(
        select(col(Claim.state), col(Claim.project), func.count())
        .where(col(Claim.ended_at).is_(None))
        .group_by(col(Claim.state), col(Claim.project))
    )
    return _gauge("seed_claims", "Living claims.", ["state", "project"], rows)


def _queue(session: Session) -> GaugeMetricFamily:
    waiting = select(func.count()).select_from(Claim).where(col(Claim.state) == ClaimState.QUEUED)
    return GaugeMetricFamily(
        "seed_queue_length", "Claims that wait for nodes.", session.execute(waiting).scalar_one()
    )


def _leases(session: Session) -> GaugeMetricFamily:
    """Claims whose lease ends within a day, or is over and not yet released."""
    named = ("project", "renewed_to", "ends_at", "lease_seconds", "held_at", "starts_at")
    rows = session.execute(
        select(*(getattr(Claim, name) for name in named)).where(
            col(Claim.ended_at).is_(None),
            col(Claim.wanted) == Wanted.ACTIVE,
            col(Claim.state).not_in((ClaimState.QUEUED, ClaimState.RESERVED)),
        )
    )
    ending: dict[tuple[str], int] = {}
    until = now() + SOON
    for row in rows:
        end = Claim.model_construct(**row._asdict()).lease_end
        if end and end <= until:
            ending[row.project,] = ending.get((row.project,), 0) + 1
    return _gauge(
        "seed_leases_ending_within_day", "Claims whose lease ends within 24 hours.", ["project"],
        [(*key, count) for key, count in ending.items()],
    )  # fmt: skip


def _nodes(session: Session) -> GaugeMetricFamily:
    facts = col(Sight.facts)
    state, kind = facts["provision_state"].as_string(), facts["resource_class"].as_string()
    held = col(Hold.claim_id).is_not(None)
    rows = session.execute(
        select(state, kind, held, facts["maintenance"].as_boolean(), func.count())
        .join(Hold, col(Hold.node_uuid) == col(Sight.node_uuid), isouter=True)
        .group_by(state, kind, held, facts["maintenance"].as_boolean())
    )
    return _gauge(
        "seed_nodes", "Nodes as they were seen in Ironic last.",
        ["provision_state", "resource_class", "held", "maintenance"], rows,
    )  # fmt: skip


def _stuck(session: Session) -> GaugeMetricFamily:
    claims = select(func.count()).select_from(Claim)
    nodes = select(func.count()).select_from(Bmc)
    living = col(Claim.ended_at).is_(None)
    rows = [
        ("claim", session.execute(claims.where(col(Claim.problem) != "", living)).scalar_one()),
        ("node", session.execute(
            nodes.where(col(Bmc.problem) != "", col(Bmc.node_uuid).is_not(None))).scalar_one()),
    ]  # fmt: skip
    return _gauge("seed_stuck", "Nodes and claims that wait for a person.", ["what"], rows)


def _sight(session: Session) -> Iterator[GaugeMetricFamily]:
    """Absent until the reconciler has read all nodes once."""
    at = session.execute(select(func.max(col(Pass.at)))).scalar()
    if at is not None:
        yield GaugeMetricFamily(
            "seed_sight_age_seconds", "Since Ironic was asked last what its nodes are.",
            max(0.0, (now() - at).total_seconds()),
        )  # fmt: skip


def _orders(session: Session) -> GaugeMetricFamily:
    alarmed = col(Order.alarm) != ""
    rows = session.execute(
        select(col(Order.kind), alarmed, func.count())
        .where(col(Order.closed_at).is_(None))
        .group_by(col(Order.kind), alarmed)
    )
    return _gauge("seed_orders", "Servers told to boot the ramdisk.", ["kind", "alarm"], rows)


def _deliveries(session: Session) -> GaugeMetricFamily:
    """Without those that arrived: there is no end of them."""
    unsent = (DeliveryState.PENDING, DeliveryState.DEAD)
    counts = dict.fromkeys(unsent, 0)
    rows = session.execute(
        select(col(Delivery.state), func.count())
        .where(col(Delivery.state).in_(unsent))
        .group_by(col(Delivery.state))
    )
    counts |= {state: count for state, count in rows}
    return _gauge(
        "seed_webhook_deliveries", "Events that wait to be sent, or were given up.", ["state"],
        list(counts.items()),
    )  # fmt: skip


def _gauge(name: str, text: str, labels: list[str], rows: Iterable[Any]) -> GaugeMetricFamily:
    """rows: the labels' values, then the number."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for *values, number in rows:
        family.add_metric([_word(value) for value in values], number)
    return family


def _word(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
