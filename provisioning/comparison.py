"""Plan against room: a verdict for each slot, and the work list.

Pure: slots and servers in, lines out, in a fixed order. A room as planned has no line but hints.
"""

from collections import defaultdict
from collections.abc import Iterable

from provisioning import server_lines
from provisioning.cable_lines import Cable, Cabling
from provisioning.rack_plan import Key, Labels, Place
from provisioning.seating import Server, seat
from provisioning.worklist import Kind, Room, Scene, Standing, Verdict

ABSENT = Kind.MISSING_SERVER
"""Of all kinds the only one that is no mistake: the server is yet to come."""


def compare(slots: Iterable[Place], servers: Iterable[Server]) -> Room:
    """What differs between plan and room. Each server once; linear in both but for sorting."""
    planned, found = sorted(slots, key=lambda place: place.order), tuple(servers)
    scene = Scene(planned, Labels(planned), seat(planned, found))
    cabling = Cabling(scene, found)
    lines = [*server_lines.lines(scene), *cabling.lines()]
    lines.sort(key=lambda line: line.order)
    wrong = {
        slot for line in lines if not (line.hint or line.kind is ABSENT) for slot in line.about
    }
    cables: dict[Key, list[Cable]] = defaultdict(list)
    for cable in cabling.cables:
        cables[cable.slot.key].append(cable)
    standings = tuple(_standing(scene, slot, wrong, cables[slot.key]) for slot in planned)
    return Room(standings, tuple(lines))


def _standing(scene: Scene, slot: Place, wrong: set[Key], cables: list[Cable]) -> Standing:
    seating = scene.seating
    occupant = seating.occupant.get(slot.key)
    anybody = occupant if not (slot.serial or slot.bmc_mac) else None
    server = seating.planned.get(slot.key, anybody)
    if slot.key in wrong:
        verdict = Verdict.WRONG
    elif server is None:
        verdict = Verdict.PLANNED
    elif server is occupant and cables and all(cable.right for cable in cables):
        verdict = Verdict.RIGHT
    else:
        verdict = Verdict.FOUND
    return Standing(slot, scene.label(slot), verdict, server, occupant)
