"""Every operation under schemathesis, all checks on: no 500, no breach of the document.

Deterministic. The gate runs every phase for the caller with all roles, with a few random cases per
operation, and leaves out the systematic ones for a claimer. SEED_SCHEMATHESIS=100 makes a hundred
random cases per operation, and runs all for both.
"""

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import structlog
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from api.app import create_app
from api.parts import Door, Parts, Rate, Rates
from api.roles import Role
from provisioning.models import Bmc, Credential, Discovery
from provisioning.store import record
from tests.fakes.api import a_token, bearer, empty_ironic, ironic_double, some_parts

LONG = int(os.environ.get("SEED_SCHEMATHESIS", "0"))
EXAMPLES = LONG or 2
ENDLESS = Rate(10**6, 10**6)
OWN_TESTS = frozenset({"If-Match", "If-None-Match", "Idempotency-Key", "cursor", "last-event-id"})
"""Opaque words that only Seed can have given, or that must not be the same twice: a made-up one is
rightly refused. tests/contract/test_api_representation.py and test_api_idempotency.py have them;
test_event_stream.py has Last-Event-ID, which no list looks at (and beside
a declared header unknown ones are to be refused, which no server does)."""
LANGUAGE = (
    "create_claim", "put_claim", "explain_claim", "renew_claim", "put_class", "test_class",
    "discover", "import_file", "import_packing_list", "import_plan", "diff_packing_lists", "adopt",
    "plan_adoption", "trust_bmc", "accept_bmc", "create_webhook", "verify_events",
    "put_network", "put_layout", "reserve_address", "put_vip",
    "add_version", "put_registry_login", "preview_claim",
    "create_cluster", "put_cluster", "plan_cluster", "ask_certificate", "give_autoscaler",
    "create_overcloud", "put_overcloud", "plan_overcloud", "give_overcloud", "ask_clouds",
)  # fmt: skip
"""Operations that read text which no JSON schema describes: keys, ranges, YAML, CSV, URLs, names
of what is there, times that are near enough. Of them 422 for what the schema allows is right,
nothing else of the check is off.
"""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Tracebacks of thousands of refusals are minutes of nothing."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """A room in which something is."""
    with ironic_double() as ironic:
        ironic.answer = empty_ironic(ironic)
        rates = Rates(ENDLESS, ENDLESS, ENDLESS)
        made = replace(some_parts(tmp_path, ironic.url), rates=rates)
        with made.store.write() as session:
            session.add(Bmc(address="172.22.1.11", protocol="redfish", serial="CZJ1234567"))
            session.add(Credential(name="rack-a", username="admin", sealed=b"sealed"))
            session.add(Discovery(ranges=["172.22.1.0/24"]))
            record(session, "claim.active", "x", project="blue")
        yield made


@dataclass(frozen=True)
class Fault:
    check: str
    operation: str
    text: str


def attack(parts: Parts, *roles: Role) -> tuple[int, list[Fault]]:
    """(how many cases, what was wrong)."""
    app = create_app(parts, Door.WEB)
    secret = a_token(parts, "-".join(("all", *roles))[:60], *roles, project="blue")
    conf = config(secret, whole=bool(LONG) or roles == tuple(Role))
    schema = schemathesis.openapi.from_dict(fewer(app.openapi()), config=conf)
    schema.app, schema.location = app, "/v1/openapi.json"
    cases, faults = 0, list[Fault]()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            faults.append(Fault("error", getattr(event, "label", ""), repr(event)))
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.cases)
            faults += list(failed(event.recorder))
    return cases, faults


def failed(recorder: Any) -> Iterator[Fault]:
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.status == "failure":
                case = recorder.cases[case_id].value
                said = recorder.interactions[case_id]
                body = said.response.content[:300] if said.response else b""
                failure = check.failure_info.failure
                text = f"{failure.title}: {failure.message}\n{case.as_curl_command()}\n{body!r}"
                yield Fault(check.name, case.operation.label, text)


def config(secret: str, *, whole: bool) -> SchemathesisConfig:
    # 400: free-form objects may hold numbers beyond 64 bits, by the schema
    accepted = ["2xx", "3xx", "400", "401", "403", "404", "409", "422", "429"]
    return SchemathesisConfig.from_dict(
        {
            "seed": 4,
            "continue-on-failure": True,
            "headers": bearer(secret),
            "generation": {
                "deterministic": True,
                "max-examples": EXAMPLES,
                "database": "none",
                "no-shrink": True,
                "allow-x00": False,  # refused everywhere, whatever a schema says
            },
            "operations": [
                {
                    "include-operation-id": name,
                    "checks": {"positive_data_acceptance": {"expected-statuses": accepted}},
                }
                for name in LANGUAGE
            ],
            "phases": {
                "coverage": {"enabled": whole},
                "stateful": {"max-steps": 6, "generation": {"max-examples": EXAMPLES}},
            },
        }
    )


def fewer(document: dict[str, Any]) -> dict[str, Any]:
    """Without what has tests of its own; one filter of each list stands for all."""
    document = copy.deepcopy(document)
    for operations in document["paths"].values():
        for operation in operations.values():
            arguments = operation.get("parameters", [])
            filters = [a for a in arguments if a["description"].startswith("Only rows whose")]
            operation["parameters"] = [
                a for a in arguments if a["name"] not in OWN_TESTS and a not in filters[1:]
            ]
    return document


@pytest.mark.timeout(7200 if LONG else 900)
@pytest.mark.parametrize("roles", [tuple(Role), (Role.CLAIMER,)], ids=["every role", "a claimer"])
def test_no_operation_breaks(parts: Parts, roles: tuple[Role, ...]) -> None:
    cases, faults = attack(parts, *roles)
    assert cases > 100
    kinds = {(f.check, f.operation): f.text for f in reversed(faults)}
    assert not faults, "\n\n".join(f"{check} {op}\n{text}" for (check, op), text in kinds.items())
