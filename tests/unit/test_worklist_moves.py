"""Whatever is mixed up in a room: doing what the list says puts it right, and then it is empty.

The room here is physical: servers are in slots, cables hang in slots and are plugged into ports.
A server hears what is plugged into the cables of the slot it sits in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning.comparison import compare
from provisioning.rack_plan import Place
from provisioning.worklist import Kind, Line, Verdict
from tests.fakes.room import server, slot

settings.register_profile("busy", deadline=None, max_examples=50)  # other work slows the machine
settings.load_profile("busy")

Jack = tuple[str, str]
"""(slot's label, NIC)"""


@dataclass
class Physical:
    """seated: slot -> serial. plugged: (slot, NIC) -> port."""

    plan: tuple[Place, ...]
    seated: dict[str, str] = field(default_factory=dict)
    plugged: dict[Jack, str] = field(default_factory=dict)

    @property
    def right_cables(self) -> dict[Jack, str]:
        return {(label(s), nic): str(port) for s in self.plan for nic, port in s.ports.items()}

    def put_right(self) -> "Physical":
        self.seated = {label(s): s.serial for s in self.plan}
        self.plugged = self.right_cables
        return self

    def lines(self) -> list[Line]:
        servers = []
        for place, serial in self.seated.items():
            count = next(len(s.ports) for s in self.plan if label(s) == place)
            ports = [self.plugged.get((place, f"NIC{n + 1}"), "") for n in range(count)]
            servers.append(server(serial, *ports))
        room = compare(self.plan, servers)
        if not room.lines:
            assert {s.verdict for s in room.standings} <= {Verdict.RIGHT, Verdict.PLANNED}
        return list(room.lines)

    def do(self, work: list[Line]) -> None:
        """As a technician does: read the labels, then servers, then cables."""
        goes = {line.from_: (line.serial, line.to) for line in work if line.kind in MOVES}
        goes |= {
            line.to: (self._back(line), line.from_)
            for line in work
            if line.kind is Kind.SWAP_SERVERS
        }
        if all(self.seated.get(place) == serial for place, (serial, _) in goes.items()):
            self._exchange_servers(goes)
        else:
            self._exchange_cables(goes)
        moved = {line.from_: line.to for line in work if line.kind in CABLES}
        moved |= {line.to: line.from_ for line in work if line.kind is Kind.SWAP_CABLES}
        self.plugged = {jack: moved.get(port, port) for jack, port in self.plugged.items()}
        assert {line.kind for line in work} <= MOVES | CABLES

    def _back(self, line: Line) -> str:
        """A swap's other server: the one that is planned where the line begins."""
        return next(s.serial for s in self.plan if label(s) == line.from_)

    def _exchange_servers(self, goes: dict[str, tuple[str, str]]) -> None:
        for place, (serial, _) in goes.items():
            if self.seated[place] == serial:
                del self.seated[place]
        self.seated |= {to: serial for serial, to in goes.values()}

    def _exchange_cables(self, goes: dict[str, tuple[str, str]]) -> None:
        """The labels are right, so it is the cables: each NIC gets the one that hangs elsewhere."""
        at = {serial: place for place, serial in self.seated.items()}
        before = dict(self.plugged)
        for serial, to in goes.values():
            hanging = at[goes[to][0]]
            for place, nic in before:
                if place == at[serial] and (hanging, nic) in before:
                    self.plugged[place, nic] = before[hanging, nic]


MOVES = {Kind.SWAP_SERVERS, Kind.MOVE_SERVER}
CABLES = {Kind.SWAP_CABLES, Kind.MOVE_CABLE}


def label(s: Place) -> str:
    return f"{s.rack.rack}u{s.unit}"


@st.composite
def plans(draw: st.DrawFn, least: int = 1, most: int = 4) -> Physical:
    """Two racks with one to six servers of one kind, each with `least` to `most` NICs."""
    size = draw(st.integers(least, most))
    made = [
        slot(f"r{1 + n % 2}u{1 + n}", f"S{n}", *(f"leaf{i}:{n + 1}" for i in range(1, size + 1)))
        for n in range(draw(st.integers(1, 6)))
    ]
    return Physical(tuple(made)).put_right()


def mixed(draw: st.DrawFn, table: Mapping[object, str]) -> dict:
    keys = sorted(table, key=str)
    return dict(zip(keys, draw(st.permutations([table[key] for key in keys])), strict=True))


@given(plans(), st.data())
def test_any_mixed_up_cables_come_right(room: Physical, data: st.DataObject) -> None:
    room.plugged = mixed(data.draw, room.plugged)
    ends_right(room)


@given(plans(least=2), st.data())
def test_two_swapped_cables_are_one_line(room: Physical, data: st.DataObject) -> None:
    one, other = data.draw(st.permutations(sorted(room.plugged)))[:2]
    room.plugged[one], room.plugged[other] = room.plugged[other], room.plugged[one]
    assert [line.kind for line in room.lines()] == [Kind.SWAP_CABLES]
    ends_right(room)


@given(plans(least=2), st.data())
def test_two_swapped_servers_are_one_line(room: Physical, data: st.DataObject) -> None:
    one, other = data.draw(st.permutations([*sorted(room.seated), "nowhere"]))[:2]
    room.seated = {{one: other, other: one}.get(at, at): s for at, s in room.seated.items()}
    expected = [] if "nowhere" in (one, other) else [Kind.SWAP_SERVERS]
    room.seated.pop("nowhere", None)
    assert [li.kind for li in room.lines() if li.kind is not Kind.MISSING_SERVER] == expected


@given(plans(), st.data())
def test_cables_in_free_ports_come_right(room: Physical, data: st.DataObject) -> None:
    room.plugged = mixed(data.draw, room.plugged)
    for n, jack in enumerate(sorted(data.draw(st.sets(st.sampled_from(sorted(room.plugged)))))):
        room.plugged[jack] = f"spare:{n}"
    ends_right(room)


@given(plans(least=2), st.data())
def test_any_mixed_up_servers_come_right(room: Physical, data: st.DataObject) -> None:
    room.seated = mixed(data.draw, room.seated)
    work = room.lines()
    assert {line.kind for line in work} <= MOVES
    assert len(work) <= sum(s.serial != room.seated[label(s)] for s in room.plan)
    ends_right(room)
    assert room.seated == {label(s): s.serial for s in room.plan}
    assert room.plugged == room.right_cables


@given(plans(least=4), st.data())
def test_mixed_up_servers_with_two_swapped_cables_come_right(
    room: Physical, data: st.DataObject
) -> None:
    room.seated = mixed(data.draw, room.seated)
    one, other = data.draw(st.permutations(sorted(room.plugged)))[:2]
    room.plugged[one], room.plugged[other] = room.plugged[other], room.plugged[one]
    ends_right(room)
    assert room.seated == {label(s): s.serial for s in room.plan}


@given(plans(least=2), st.data())
def test_mixed_up_servers_with_empty_slots_come_right(room: Physical, data: st.DataObject) -> None:
    """Who never came stays expected; those that are there go home."""
    room.seated = mixed(data.draw, room.seated)
    gone = data.draw(st.sets(st.sampled_from(sorted(room.seated))))
    room.seated = {place: s for place, s in room.seated.items() if place not in gone}
    work = [line for line in room.lines() if line.kind is not Kind.MISSING_SERVER]
    room.do(work)
    assert {line.kind for line in room.lines()} <= {Kind.MISSING_SERVER}
    assert all(s.serial == room.seated.get(label(s), s.serial) for s in room.plan)


@given(plans())
def test_a_right_room_has_an_empty_list(room: Physical) -> None:
    assert room.lines() == []


def ends_right(room: Physical) -> None:
    """One round does it; a line too many or too few would be seen in the second."""
    room.do(room.lines())
    assert room.lines() == []
