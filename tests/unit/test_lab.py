"""Scenario file, FRU bytes, domain XML, and what the BMCs keep: no process is started."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from provisioning.errors import Invalid, NotFound
from seed.lab import ipmi_bmc, redfish_accounts
from seed.lab.domain import BootFirst, render
from seed.lab.failed_logins import FailedLogins, read
from seed.lab.fru import fru
from seed.lab.scenario import Scenario, load
from seed.lab.state import Layout

TOP = Path(__file__).resolve().parents[2]
GOLDEN = TOP / "tests" / "golden" / "lab"


@pytest.fixture
def scenario() -> Scenario:
    return load(TOP / "vagrant" / "lab.yaml")


def test_the_demo_is_one_modern_and_one_old_server(scenario: Scenario) -> None:
    one, two = scenario.servers
    assert (one.bmc.protocol, one.firmware, one.virtio) == ("redfish", "uefi", True)
    assert (two.bmc.protocol, two.firmware, two.virtio) == ("ipmi", "bios", False)
    assert scenario.bridge_of(two.bmc.address) == "oob0"
    with pytest.raises(NotFound, match="server3"):
        scenario.server("server3")


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        pytest.param(["colour"], "red", "colour: Extra inputs", id="unknown key"),
        pytest.param(["servers", 0, "bmc", "adress"], "x", "adress: Extra", id="typo"),
        pytest.param(["namespace"], "Not A Name", "namespace: String", id="name"),
        pytest.param(["networks", "oob0"], "10.0.0.1/24", "none of the networks", id="no wire"),
        pytest.param(["servers", 1, "name"], "server1", "name server1 is used 2", id="two names"),
        pytest.param(
            ["servers", 1, "bmc", "address"], "172.22.1.11", "is used 2 times", id="two BMCs"
        ),
        pytest.param(
            ["servers", 1, "bmc", "address"], "172.22.1.1", "is used 2 times", id="our address"
        ),
        pytest.param(
            ["servers", 1, "nics", 0, "mac"], "52:54:00:22:00:0b", "MAC .* 2 times", id="MAC"
        ),
        pytest.param(["servers", 0, "nics", 0, "network"], "x0", "no network 'x0'", id="no net"),
        pytest.param(["servers", 0, "disks", 0, "bus"], "nvme", "cannot boot", id="nvme"),
        pytest.param(["servers", 0, "serial"], 'a"b', "serial: String", id="quote in serial"),
    ],
)
def test_a_wrong_scenario_says_where_and_why(
    tmp_path: Path, place: list[str | int], value: str, sentence: str
) -> None:
    content = yaml.safe_load((TOP / "vagrant" / "lab.yaml").read_text())
    at = content
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(Invalid, match=sentence):
        load(path)


@pytest.mark.parametrize(
    ("text", "error"), [("servers: [", Invalid), ("just words", Invalid), (None, NotFound)]
)
def test_what_is_no_scenario_at_all(
    tmp_path: Path, text: str | None, error: type[Exception]
) -> None:
    path = tmp_path / "lab.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error):
        load(path)


def fields(area: bytes, start: int) -> list[str]:
    """The texts of a FRU area from `start` to its end marker."""
    found, at = [], start
    while area[at] != 0xC1:
        length = area[at] & 0x3F
        found.append(area[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return found


def test_fru_areas_add_up_and_say_what_smbios_says(scenario: Scenario) -> None:
    server = scenario.servers[1]
    data = fru(server)
    header = data[:8]
    assert sum(header) % 256 == 0
    areas = {}
    for name, offset in zip(("chassis", "board", "product"), header[2:5], strict=True):
        start = offset * 8
        areas[name] = data[start : start + data[start + 1] * 8]
        assert sum(areas[name]) % 256 == 0, name
    assert sum(len(area) for area in areas.values()) + 8 == len(data)
    assert fields(areas["chassis"], 3) == [server.model, server.serial]
    assert fields(areas["board"], 6)[:3] == ["Lab Systems", "LS-200 BIOS board", "LAB-0002"]
    assert fields(areas["product"], 3)[4] == server.serial


@pytest.mark.parametrize("first", ["network", "disk"])
@pytest.mark.parametrize("number", [0, 1])
def test_domain_xml_is_as_agreed(scenario: Scenario, number: int, first: BootFirst) -> None:
    server = scenario.servers[number]
    text = render(scenario, server, Layout(Path("/var/lib/seed-lab/seed-lab")), first)
    golden = GOLDEN / f"{server.name}-{first}.xml"
    assert text == golden.read_text(), f"if this is meant, write it to {golden}"


def test_nothing_in_the_old_server_is_virtio(scenario: Scenario) -> None:
    text = render(scenario, scenario.servers[1], Layout(Path("/x")), "network")
    assert "virtio" not in text
    assert "isa-ipmi-kcs" in text


def test_an_nvme_disk_boots_first_only_if_asked(scenario: Scenario) -> None:
    disk = scenario.servers[1].disks[0].model_copy(update={"bus": "nvme"})
    server = scenario.servers[1].model_copy(update={"disks": (disk,)})
    altered = scenario.model_copy(update={"servers": (scenario.servers[0], server)})
    layout = Layout(Path("/x"))
    assert "bootindex=0" in render(altered, server, layout, "disk")
    assert "bootindex=90" in render(altered, server, layout, "network")


def test_state_directories_too_deep_for_a_socket_are_refused() -> None:
    with pytest.raises(Invalid, match="too long"):
        Layout(Path("/" + "x" * 90))


def test_failed_logins_are_counted_on_file(tmp_path: Path) -> None:
    path = tmp_path / "failed_logins"
    assert read(path)["count"] == 0
    FailedLogins(path).add()
    FailedLogins(path).add()
    assert read(path)["count"] == len(read(path)["times"]) == 2


def test_accounts_outlive_the_bmc_and_keep_no_password(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    accounts = redfish_accounts.Accounts(path, "admin", "first-password")
    accounts.add("second", "another-password", "Operator")
    assert path.stat().st_mode & 0o777 == 0o600
    again = redfish_accounts.Accounts(path, "admin", "not this one")
    assert again.check("admin", "first-password")
    assert again.check("second", "another-password")
    assert not again.check("admin", "not this one")
    assert "first-password" not in path.read_text()


def test_eight_sessions_and_no_more() -> None:
    sessions = redfish_accounts.Sessions()
    opened = [sessions.open("admin") for _ in range(redfish_accounts.MAX_SESSIONS)]
    assert None not in opened
    assert sessions.open("admin") is None
    assert opened[0] is not None
    assert sessions.close(opened[0].id)
    assert sessions.use(opened[0].token) is None
    assert sessions.open("admin") is not None
    sessions.close_of("admin")
    assert sessions.all() == []


def test_an_idle_session_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = redfish_accounts.Sessions()
    session = sessions.open("admin")
    assert session is not None
    monkeypatch.setattr(redfish_accounts, "IDLE_SECONDS", -1.0)
    assert sessions.use(session.token) is None


REQUEST_15 = bytes.fromhex("0600ff07 00 00000000 00000000 0a 20 18 c8 81 04 54 0e 00 80 99")


def test_the_relay_answers_the_question_ipmi_sim_is_silent_on() -> None:
    answer = ipmi_bmc.cipher_suites_answer(REQUEST_15)
    assert answer is not None
    message = answer[14:]
    assert answer[13] == len(message)
    assert sum(message[:3]) % 256 == 0
    assert sum(message[3:]) % 256 == 0
    assert message[6:-1] == bytes([0, 1]) + ipmi_bmc.CIPHER_SUITE_3


@pytest.mark.parametrize("length", range(len(REQUEST_15)))
def test_the_relay_survives_cut_packets(length: int) -> None:
    assert ipmi_bmc.cipher_suites_answer(REQUEST_15[:length]) is None
    assert ipmi_bmc.rakp(REQUEST_15[:length]) is None


def rakp(kind: int, status: int, session: int) -> bytes:
    head = bytes.fromhex("0600ff07 06") + bytes([kind]) + bytes(8)
    body = bytes([0, status, 0, 0]) + session.to_bytes(4, "little") + bytes(20)
    return head + len(body).to_bytes(2, "little") + body


@pytest.mark.parametrize(
    ("messages", "later", "count"),
    [
        pytest.param([(0x13, 0), (0x14, 0), (0x15, 0)], 9.0, 0, id="a good login"),
        pytest.param([(0x13, 0x0D)], 0.0, 1, id="an unknown user"),
        pytest.param([(0x13, 0x0D), (0x13, 0x0D)], 0.0, 1, id="the same answer twice"),
        pytest.param([(0x13, 0), (0x14, 0x0F)], 9.0, 1, id="the client says: wrong password"),
        pytest.param([(0x13, 0), (0x14, 0), (0x15, 0x0F)], 9.0, 1, id="the BMC says so"),
        pytest.param([(0x13, 0)], 9.0, 1, id="the client gives up without a word"),
        pytest.param([(0x13, 0)], 1.0, 0, id="the client is still thinking"),
    ],
)
def test_refused_logins_are_seen_in_passing(
    tmp_path: Path, messages: list[tuple[int, int]], later: float, count: int
) -> None:
    path = tmp_path / "failed_logins"
    relay = ipmi_bmc.Relay(("127.0.0.1", 0), ("127.0.0.1", 1), FailedLogins(path))
    flow = ipmi_bmc.Flow(relay.front, used=1e12)
    relay.flows["127.0.0.1", 1] = flow
    for kind, status in messages:
        seen = ipmi_bmc.rakp(rakp(kind, status, 7))
        assert seen is not None
        relay.judge(flow, seen)
    since = next(iter(flow.proving.values()), 0.0)
    relay.overdue(since + later)
    relay.front.close()
    assert read(path)["count"] == count


def test_bmc_addresses_must_be_addresses(scenario: Scenario) -> None:
    with pytest.raises(ValueError, match=r"10\.9\.9\.9"):
        scenario.bridge_of(IPv4Address("10.9.9.9"))
