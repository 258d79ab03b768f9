"""`seed rack ...` as people type it, by HTTP; docs/racks.md shows the same screens."""

import csv
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlmodel import select
from typer.testing import CliRunner, Result

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import survey
from provisioning.bmc import Access, Contact
from provisioning.errors import BmcError
from provisioning.hardware import Inventory, Neighbour, Nic
from provisioning.models import Bmc, Credential, now
from provisioning.states import Login
from provisioning.survey import Surveyor
from seed.cli import app
from tests.fakes.api import a_token, some_parts
from tests.fakes.serving import api_on_a_port

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "racks.md").read_text()
PLAN = """rack,unit,height,serial,class,technician,NIC1,NIC2
r3,17,1,SN-1017,compute,ann,leaf1:17,leaf2:17
r3,18,1,SN-1018,compute,ann,leaf1:18,leaf2:18
r3,19,2,SN-1019,storage,bob,leaf1:19,leaf2:19
r3,21,1,SN-1021,compute,ann,leaf1:21,leaf2:21
r3,22,1,SN-1022,compute,ann,leaf1:22,leaf2:22
r3,23,1,SN-1023,compute,bob,leaf1:23,leaf2:23
r3,24,1,SN-1024,compute,bob,leaf1:24,leaf2:24
"""
FOUND = {
    "SN-1017": ("leaf1:17", "leaf2:17"),
    "SN-1018": ("leaf1:18", "leaf1:40"),
    "SN-1021": ("leaf1:22", "leaf2:22"),
    "SN-1022": ("leaf1:21", "leaf2:21"),
    "SN-9999": ("leaf1:23", "leaf2:23"),
    "SN-1024": (),
}


def server(number: int, serial: str, ports: tuple[str, ...]) -> Bmc:
    """As it is stored after an inspection three minutes ago."""
    nics = tuple(
        Nic(
            mac=f"02:00:00:00:{number:02x}:0{n}",
            name=f"eno{n}",
            neighbours=(
                Neighbour(switch=port.split(":")[0], port=f"Ethernet{port.split(':')[1]}"),
            ),
        )
        for n, port in enumerate(ports, 1)
    )
    then = now() - timedelta(minutes=3)
    told = {"ramdisk": Inventory(nics=nics).model_dump(mode="json"), "ramdisk_at": then}
    return Bmc(
        address=f"10.0.1.{number}", protocol="redfish", serial=serial, **(told if nics else {})
    )


@dataclass
class Leds:
    """A BMC protocol that can only blink; 10.0.1.22 cannot."""

    blinked: list[tuple[str, bool]] = field(default_factory=list)

    def locate(self, contact: Contact, access: Access, on: bool, timeout: float) -> None:
        if contact.address == "10.0.1.22":
            raise BmcError("it has no locate LED", "look for it")
        self.blinked.append((contact.address, on))


@pytest.fixture
def leds(room: Callable[..., Result], parts: Parts) -> Iterator[list[tuple[str, bool]]]:
    """What blinked, in order; the part of the reconciler that does it."""
    protocol, stop = Leds(), threading.Event()
    access = Access("u", SecretStr("p"))
    surveyor = Surveyor(parts.store, {"redfish": protocol}, lambda _: access, lambda _: None)  # type: ignore[dict-item]

    def run() -> None:
        while not stop.wait(0.02):
            with parts.store.read() as session:
                due = survey.led_due(session)
            for identity, _ in due:
                surveyor.locate(identity)

    thread = threading.Thread(target=run)
    thread.start()
    yield protocol.blinked
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return some_parts(tmp_path_factory.mktemp("verbs"))


@pytest.fixture(scope="module")
def url(parts: Parts) -> Iterator[str]:
    """The API on a free port of loopback."""
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        yield url


@pytest.fixture(scope="module")
def seed(parts: Parts, url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(a_token(parts, "staff", Role.OPERATOR))
    env = {
        "SEED_CONFIG": "/nowhere",
        "SEED_SERVER": url,
        "SEED_TOKEN_FILE": str(token),
        "COLUMNS": "80",
        "NO_COLOR": "1",
    }

    def run(*words: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, words, env=env, input=stdin)

    return run


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plan") / "room.csv"
    file.write_bytes(b"\xef\xbb\xbf" + PLAN.encode())
    return file


@pytest.fixture(scope="module")
def room(seed: Callable[..., Result], parts: Parts, plan: Path) -> Callable[..., Result]:
    """One swapped pair, one wrong cable, one wrong serial, one that never came, one silent NIC."""
    done = seed("rack", "plan", "import", str(plan))
    assert (done.exit_code, done.stderr) == (0, "")
    with parts.store.write() as session:
        login = Credential(name="login", username="u", sealed=b"")
        session.add(login)
        session.flush()
        for number, (serial, ports) in enumerate(FOUND.items(), 17):
            found = server(number, serial, ports)
            found.login, found.credential_id = Login.OK, login.id
            session.add(found)
    return seed


def screen(*words: str) -> str:
    """What docs/racks.md shows for this command."""
    return DOCS.split("$ " + " ".join(("seed", *words)) + "\n")[1].split("```")[0].rstrip()


@pytest.mark.parametrize(
    "words", [("rack", "list"), ("rack", "show", "r3"), ("rack", "work", "--technician", "bob")]
)
def test_the_page_shows_the_real_screen(room: Callable[..., Result], words: list[str]) -> None:
    shown = room(*words)
    assert shown.exit_code == 0
    lines = [line.rstrip() for line in shown.stdout.rstrip().splitlines()]
    left_out = screen(*words).split("\n...\n")  # most of a rack is empty
    assert len(left_out) in (1, 3)
    pattern = "(\n.*)*\n".join(re.escape(part) for part in left_out)
    assert re.fullmatch(pattern, "\n".join(lines))


def test_a_drawing_fits_80_columns_and_says_without_colour_what_colour_says(
    room: Callable[..., Result],
) -> None:
    text = room("rack", "show", "r3").stdout.split("= right   !")[0]
    drawn = [line for line in text.splitlines() if "|" in line]
    assert len(drawn) == 42
    assert {len(line) for line in drawn} == {80}
    assert drawn[0].startswith(" 42 |")
    assert {line[5] for line in drawn} == {"=", "!", "?", ".", " "}


def test_work_as_json_is_what_the_api_says(room: Callable[..., Result]) -> None:
    lines = json.loads(room("rack", "work", "-o", "json").stdout)
    again = json.loads(room("rack", "work", "-o", "json").stdout)
    assert [line["id"] for line in lines] == [line["id"] for line in again]
    assert [(line["kind"], line["slot"]) for line in lines] == [
        ("move-cable", "r3u18"),
        ("missing-server", "r3u19"),
        ("swap-servers", "r3u21"),
        ("wrong-serial", "r3u23"),
        ("no-lldp", "r3u24"),
    ]


def test_a_label_shows_its_slot(room: Callable[..., Result]) -> None:
    shown = room("rack", "scan", "--no-blink", "https://x.example/?sn=SN-1021")
    assert shown.stdout.splitlines()[0] == (
        "serial SN-1021: r3u21, wrong; its cables say it is in r3u22"
    )
    assert "r3u21 and r3u22 are swapped" in shown.stdout


def test_a_scanner_sends_line_by_line_and_a_bad_label_ends_nothing(
    room: Callable[..., Result],
) -> None:
    shown = room("rack", "scan", "--no-blink", stdin="SN-1017\n\nnonsense\nSN-1019\n")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "serial SN-1017: r3u17, right",
        "serial SN-1019: r3u19, planned",
        "r3u19 is empty, serial SN-1019 expected",
        "    look: Is it there? Then power and the BMC's cable; else rack it.",
        "    seen: no BMC that was found tells this",
        "    line "
        + screen("rack", "work", "--technician", "bob").split("line ")[1][:10]
        + "  bob",
        "1 to do, 0 not known",
        "no BMC of it was found: nothing to blink",
    ]
    assert "nothing in 'nonsense' is a serial" in shown.stderr


def test_a_slot_and_a_line_blink(room: Callable[..., Result], leds: list[tuple[str, bool]]) -> None:
    assert room("rack", "locate", "r3u17", "--on").stdout == "10.0.1.17: the locate LED is on\n"
    lines = json.loads(room("rack", "work", "-o", "json").stdout)
    swap = next(line for line in lines if line["kind"] == "swap-servers")
    done = room("rack", "locate", swap["id"], "--off")
    assert done.exit_code == 0, done.output
    assert leds == [("10.0.1.17", True), ("10.0.1.20", False), ("10.0.1.19", False)]


def test_the_server_that_was_scanned_blinks_until_the_next(
    room: Callable[..., Result], leds: list[tuple[str, bool]]
) -> None:
    assert room("rack", "scan", stdin="SN-1017\nSN-1017\nSN-1019\nSN-1018\n").exit_code == 0
    assert leds == [
        ("10.0.1.17", True), ("10.0.1.17", False), ("10.0.1.18", True), ("10.0.1.18", False),
    ]  # fmt: skip


def test_a_bmc_without_a_led_says_so(
    room: Callable[..., Result], leds: list[tuple[str, bool]]
) -> None:
    said = room("rack", "locate", "r3u24", "--on")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "it has no locate LED" in said.stderr
    shown = room("rack", "scan", "SN-1024")
    assert (shown.exit_code, "it has no locate LED" in shown.stderr) == (0, True)
    assert leds == []


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("r3u19", "nobody knows which server is in r3u19"),
        ("r3u40", "nothing is planned in r3u40"),
        ("r9u1", "no rack 'r9' is planned"),
        ("4f2a91c0de", "there is no line '4f2a91c0de'"),
        ("../../bmcsu1", "'..' is no name or address"),
    ],
)
def test_what_cannot_blink_is_said(room: Callable[..., Result], what: str, sentence: str) -> None:
    said = room("rack", "locate", what, "--on")
    assert said.exit_code == 1
    assert sentence in said.stderr.replace("\n", " ")
    assert "try: " in said.stderr


def test_replacing_everything_asks_for_the_count(
    room: Callable[..., Result], tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("- {rack: r9, unit: 1, serial: SN-9}\n")
    said = room("rack", "plan", "import", str(other), "--replace", stdin="6\n")
    assert said.exit_code == 1
    assert "7 planned slots go, 1 come." in said.stderr
    assert "nothing was done" in said.stderr
    assert json.loads(room("rack", "list", "-o", "json").stdout)[0]["planned"] == 7


def test_a_bad_file_is_one_sentence_and_changes_nothing(
    room: Callable[..., Result], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(PLAN + "r3,20,1,SN-X,,,,\n")
    said = room("rack", "plan", "import", str(bad))
    assert said.exit_code == 1
    assert said.stderr.replace("\n", " ").startswith(
        "error: unit 20 of rack r3 holds two servers: r3u19 (row 4) and r3u20 (row 9)"
    )
    assert json.loads(room("rack", "list", "-o", "json").stdout)[0]["planned"] == 7


def test_a_sheet_for_paper_has_no_formula(room: Callable[..., Result], parts: Parts) -> None:
    with parts.store.write() as session:
        session.add(Bmc(address="10.0.1.99", protocol="ipmi", serial="=cmd|calc"))
    try:
        rows = list(csv.reader(room("rack", "report", "--format", "csv").stdout.splitlines()))
    finally:
        with parts.store.write() as session:
            session.delete(session.exec(select(Bmc).where(Bmc.address == "10.0.1.99")).one())
    assert rows[0][:6] == ["site", "row", "rack", "unit", "slot", "verdict"]
    assert rows[1][2:8] == ["r3", "17", "r3u17", "right", "SN-1017", "SN-1017"]
    assert rows[-1][-1] == "serial =cmd|calc is in no plan"
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_a_page_for_paper_has_no_markup_of_strangers(
    room: Callable[..., Result], parts: Parts, tmp_path: Path
) -> None:
    with parts.store.write() as session:
        session.add(Bmc(address="10.0.1.98", protocol="ipmi", serial="<script>alert(1)</script>"))
    page = tmp_path / "racks.html"
    done = room("rack", "report", "--format", "html", "--to", str(page))
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "<script>" not in text
    assert "serial &lt;script&gt;alert(1)&lt;/script&gt; is in no plan" in text
    assert "r3u21 and r3u22 are swapped" in text
    assert text.count("<li") == 6
