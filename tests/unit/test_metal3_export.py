"""`seed metal3 export`: root writes a lent claim's objects on the Seed machine, recorded."""

from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from sqlmodel import select
from typer.testing import CliRunner

from provisioning.lent import Lending
from provisioning.models import Bmc, Claim, Event, Hold
from provisioning.states import ClaimState, LendingStep, Login
from provisioning.store import Store
from seed.cli import app
from tests.fakes import metal3_crd
from tests.unit.test_reveal import ADDRESS, PASSWORD, store

__all__ = ["store"]


@pytest.fixture
def lent(store: Store) -> Store:
    """The BMC's server is of a claim that Metal3 has."""
    with store.write() as session:
        claim = Claim(name="capi", image="debian", state=ClaimState.ACTIVE)
        bmc = session.exec(select(Bmc)).one()
        bmc.node_uuid, bmc.node_name, bmc.login = uuid4(), "sn-1", Login.LENT
        session.add(claim)
        session.flush()
        session.add(Hold(node_uuid=bmc.node_uuid, claim_id=claim.id, generation=1))
        session.add(Lending(claim_id=claim.id, step=LendingStep.LENT))
        session.add(bmc)
    return store


def export(*argv: str) -> tuple[int, str]:
    said = CliRunner().invoke(app, ["metal3", "export", *argv])
    return said.exit_code, said.output + str(said.exception or "")


def test_the_objects_are_roots_alone_and_who_asked_is_kept(
    lent: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "joe")
    to = tmp_path / "hosts.yaml"
    code, said = export("capi", "--to", str(to), "--namespace", "metal3")
    assert (code, PASSWORD in said) == (0, False), said
    assert oct(to.stat().st_mode & 0o777) == "0o600"
    documents = list(yaml.safe_load_all(to.read_text()))
    assert [fault for one in documents for fault in metal3_crd.faults(one)] == []
    assert documents[1]["spec"]["bmc"]["address"] == f"redfish://{ADDRESS}"
    assert "bootMACAddress" not in documents[1]["spec"]
    assert "write its bootMACAddress" in " ".join(said.split())
    with lent.read() as session:
        (event,) = session.exec(select(Event)).all()
    assert (event.kind, event.who) == ("claim.exported", "joe")
    code, said = export("capi", "--to", str(to))
    assert code != 0
    assert "cannot be made" in said


def test_what_is_refused_leaves_no_file(lent: Store, tmp_path: Path) -> None:
    to = tmp_path / "hosts.yaml"
    with lent.write() as session:
        row = session.exec(select(Lending)).one()
        row.step = LendingStep.RETURNING
        session.add(row)
    for name in ("capi", "nobody"):
        code, _ = export(name, "--to", str(to))
        assert code != 0
        assert not to.exists()


def test_who_is_not_root_gets_nothing(
    lent: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    to = tmp_path / "hosts.yaml"
    assert export("capi", "--to", str(to))[0] == 1
    assert not to.exists()
