"""`seed bmc accept` and `rotate` as people type them, by HTTP; what the API never says."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from sqlmodel import select
from typer.testing import CliRunner, Result

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import pinning
from provisioning.bmc import Contact
from provisioning.models import Bmc, Credential
from provisioning.room import Rotation
from provisioning.states import Login, RotationStep
from seed.cli import app
from tests.fakes.api import a_token, some_parts
from tests.fakes.serving import api_on_a_port

PASSWORD = "never-said-by-the-api"
TAKES, CANNOT, FRESH = "10.0.1.11", "10.0.1.12", "10.0.1.13"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    parts = some_parts(tmp_path)
    with parts.store.write() as session:
        row = Credential(name="fleet", username="admin", sealed=b"")
        row.sealed = parts.sealer.seal(PASSWORD, f"credential:{row.id}")
        session.add(row)
        session.flush()
        for number, address in enumerate((TAKES, CANNOT, FRESH)):
            session.add(
                Bmc(
                    address=address, protocol="redfish", login=Login.OK, credential_id=row.id,
                    serial=f"SN-{number}", system_uuid=f"u-{number}",
                )
            )  # fmt: skip
    return parts


@pytest.fixture
def seed(parts: Parts, tmp_path: Path) -> Iterator[Callable[..., Result]]:
    token = tmp_path / "token"
    token.write_text(a_token(parts, "staff", Role.OPERATOR))
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        env = {
            "SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "SEED_TOKEN_FILE": str(token),
            "COLUMNS": "120", "NO_COLOR": "1",
        }  # fmt: skip
        yield lambda *words: CliRunner().invoke(app, words, env=env)


@pytest.fixture
def reconciler(parts: Parts) -> Iterator[None]:
    """What becomes of each wish: one BMC takes a new login, the other cannot."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            with parts.store.write() as session:
                for row in session.exec(select(Rotation)).all():
                    if session.get_one(Bmc, row.bmc_id).address == TAKES:
                        session.delete(row)
                    else:
                        row.step = RotationStep.FAILED
                        row.problem, row.remedy = "it has no AccountService", "vendor's tool"

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


def change(parts: Parts, address: str) -> Rotation | None:
    with parts.store.read() as session:
        bmc = session.exec(select(Bmc).where(Bmc.address == address)).one()
        return session.get(Rotation, bmc.id)


def test_accept_takes_over_unless_told_not_to(parts: Parts, seed: Callable[..., Result]) -> None:
    assert seed("bmc", "accept", TAKES, "--name", "r1u01").exit_code == 0
    assert seed("bmc", "accept", CANNOT, "--name", "r1u02", "--keep-login").exit_code == 0
    asked = change(parts, TAKES)
    assert asked is not None
    assert (asked.step, asked.asked_by, asked.candidate_id) == (RotationStep.ASKED, "staff", None)
    assert change(parts, CANNOT) is None


def test_rotate_says_what_became_of_each(
    parts: Parts, seed: Callable[..., Result], reconciler: None
) -> None:
    for number, address in enumerate((TAKES, CANNOT)):
        said = seed("bmc", "accept", address, "--name", f"r1u0{number}", "--keep-login")
        assert said.exit_code == 0, said.output
    done = seed("bmc", "rotate", TAKES, "-o", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["rotation"] == ""
    failed = seed("bmc", "rotate", TAKES, CANNOT)
    assert failed.exit_code == 1
    assert f"{CANNOT}: failed: it has no AccountService" in failed.output
    assert "try: vendor's tool" in failed.output
    assert PASSWORD not in done.output + failed.output


def test_a_bmc_that_is_not_ours_keeps_its_login(parts: Parts, seed: Callable[..., Result]) -> None:
    said = seed("bmc", "rotate", FRESH)
    assert said.exit_code == 1
    assert f"BMC {FRESH} is not accepted" in said.output
    assert f"seed bmc accept {FRESH}" in said.output
    assert change(parts, FRESH) is None
    assert seed("bmc", "rotate", "10.0.1.99").exit_code == 1


def test_another_certificate_is_trusted_as_the_remedy_says(
    parts: Parts, seed: Callable[..., Result]
) -> None:
    pinned, shown = (ssl.DER_cert_to_PEM_cert(word) for word in (b"pinned", b"shown"))
    assert seed("bmc", "accept", TAKES, "--name", "r1u01", "--keep-login").exit_code == 0
    with parts.store.write() as session:
        bmc = session.exec(select(Bmc).where(Bmc.address == TAKES)).one()
        bmc.certificate, bmc.fingerprint = pinned, sha256(b"pinned").hexdigest()
        contact = Contact(TAKES, "redfish", sha256(b"shown").hexdigest(), shown)
        remedy = pinning.stranger(session, bmc, contact).remedy
    words = remedy.partition("`seed ")[2].partition("`")[0].split()
    wrong = seed(*words[:3], "f" * 64)
    assert wrong.exit_code == 1
    assert "was not seen with that certificate" in wrong.output
    for _ in range(2):  # twice is once
        done = seed(*words, "-o", "json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)[0]["fingerprint"] == contact.fingerprint
    with parts.store.read() as session:
        bmc = session.exec(select(Bmc).where(Bmc.address == TAKES)).one()
        assert (bmc.certificate, bmc.offered) == (shown, "")
    said = seed("bmc", "trust", FRESH, "f" * 64)
    assert f"BMC {FRESH} is not accepted" in said.output
    assert seed("bmc", "trust", FRESH, "nonsense").exit_code == 1
