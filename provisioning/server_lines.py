"""Servers that are not where, or not what, the plan has them."""

from collections.abc import Iterator
from datetime import datetime

from provisioning.cabling import Port
from provisioning.rack_plan import Place
from provisioning.seating import Server
from provisioning.worklist import Kind, Line, Scene

LABELS_FIRST = (
    "Read the labels first: if both servers are where they belong, their cables are swapped."
)


def lines(scene: Scene) -> Iterator[Line]:
    """One slot after the other; then the servers that are in no plan and no slot."""
    for slot in scene.slots:
        occupant = scene.seating.occupant.get(slot.key)
        if occupant is None:
            if slot.key not in scene.seating.planned:
                yield _missing(scene, slot)
            continue
        yield from _of_occupant(scene, slot, occupant)
    ports = {port: slot for slot in scene.slots for port in slot.ports.values()}
    switches = {port.switch for port in ports}
    for server in scene.seating.unplanned:
        if server.address not in scene.seating.at:
            yield _unknown(scene, server, ports, switches)


def expected(slot: Place) -> str:
    """Which server a slot waits for, in words."""
    if slot.serial:
        return f"serial {slot.serial}"
    if slot.bmc_mac:
        return f"the server with BMC MAC {slot.bmc_mac}"
    return f"a server of class {slot.resource_class}" if slot.resource_class else "a server"


def _of_occupant(scene: Scene, slot: Place, occupant: Server) -> Iterator[Line]:
    home = scene.seating.home.get(occupant.address)
    yield from _state(scene, slot, home or slot, occupant)
    if home is not None and home.key != slot.key:
        yield from _elsewhere(scene, slot, home, occupant)
    elif home is None and (slot.serial or slot.bmc_mac):
        yield _wrong_serial(scene, slot, occupant, _by_cables(scene, occupant, slot))
    else:
        yield from _at_home(scene, slot, occupant)


def _at_home(scene: Scene, slot: Place, occupant: Server) -> Iterator[Line]:
    if slot.serial and occupant.serial and slot.serial.lower() != occupant.serial.lower():
        why = f"its BMC has the MAC planned for it, {slot.bmc_mac}"
        yield _wrong_serial(scene, slot, occupant, why)
    if slot.bmc_mac and occupant.bmc_mac and slot.bmc_mac != occupant.bmc_mac:
        yield _wrong_bmc_mac(scene, slot, occupant)


# --- which server ---------------------------------------------------------------------------------


def _missing(scene: Scene, slot: Place) -> Line:
    return scene.line(
        Kind.MISSING_SERVER,
        f"{scene.label(slot)} is empty, {expected(slot)} expected",
        "server",
        slot,
        to=slot.serial or slot.bmc_mac,
        check="Is it there? Then power and the BMC's cable; else rack it.",
        evidence="no BMC that was found tells this",
    )


def _elsewhere(scene: Scene, slot: Place, home: Place, occupant: Server) -> Iterator[Line]:
    """`occupant` sits in `slot`, and is planned at `home`."""
    here, there = scene.label(slot), scene.label(home)
    other = scene.seating.occupant.get(home.key)
    back = scene.seating.home.get(other.address) if other else None
    if other and back and back.key == slot.key:
        if slot.order < home.order:
            yield scene.line(
                Kind.SWAP_SERVERS,
                f"{here} and {there} are swapped",
                "server",
                slot,
                home,
                from_=here,
                to=there,
                serial=occupant.serial,
                check=LABELS_FIRST,
                evidence=f"{_by_cables(scene, occupant, slot)}; {_by_cables(scene, other, home)}",
                at=min(filter(None, (_at(occupant), _at(other))), default=None),
                bmcs=(*occupant.leds, *other.leds),
            )
        return
    yield scene.line(
        Kind.MOVE_SERVER,
        f"move {occupant.name} from {here} to {there}",
        "server",
        slot,
        home,
        from_=here,
        to=there,
        serial=occupant.serial,
        check="Read the label first: if it is where it belongs, its cables are not.",
        evidence=_by_cables(scene, occupant, slot),
        at=_at(occupant),
        bmcs=occupant.leds,
    )
    if slot.key not in scene.seating.planned and (slot.serial or slot.bmc_mac):
        yield _missing_behind(scene, slot, occupant)


def _missing_behind(scene: Scene, slot: Place, occupant: Server) -> Line:
    return scene.line(
        Kind.MISSING_SERVER,
        f"{scene.label(slot)} waits for {expected(slot)}; {occupant.name} is there now",
        "server",
        slot,
        to=slot.serial or slot.bmc_mac,
        evidence="no BMC that was found tells this",
    )


def _wrong_serial(scene: Scene, slot: Place, occupant: Server, why: str) -> Line:
    planned = scene.seating.planned.get(slot.key)
    if planned and planned is not occupant:
        why += f"; {planned.name} answers at {planned.address}, nobody knows from where"
    return scene.line(
        Kind.WRONG_SERIAL,
        f"{scene.label(slot)} holds {occupant.name}, {expected(slot)} expected",
        "server",
        slot,
        from_=occupant.serial or occupant.address,
        to=slot.serial or slot.bmc_mac,
        serial=occupant.serial,
        check="Read the label: exchange the server, or correct the plan.",
        evidence=why,
        at=_at(occupant),
        bmcs=occupant.leds,
    )


def _wrong_bmc_mac(scene: Scene, slot: Place, server: Server) -> Line:
    return scene.line(
        Kind.WRONG_BMC_MAC,
        f"{scene.label(slot)}: the BMC's MAC is {server.bmc_mac}, {slot.bmc_mac} is planned",
        "BMC",
        slot,
        from_=server.bmc_mac,
        to=slot.bmc_mac,
        serial=server.serial,
        hint=True,
        check="Was its board replaced? Then correct the plan.",
        evidence=f"BMC {server.address}" if server.leds else "the discovery ramdisk",
        at=server.seen_at,
        bmcs=server.leds,
    )


def _unknown(scene: Scene, server: Server, ports: dict[Port, Place], switches: set[str]) -> Line:
    """Without a place; at a slot if it sits in a port that is planned for that."""
    heard = sorted(server.heard)
    planned = [ports[port] for port in heard if port in ports]
    where = f", in {', '.join(map(str, heard))}" if heard else ""
    return scene.line(
        Kind.UNKNOWN_SERVER,
        f"{server.name} is in no plan{where}",
        "server",
        *planned[:1],
        from_=server.serial or server.address,
        serial=server.serial,
        hint=not any(port.switch in switches for port in heard),
        check="Plan it, or take it out.",
        evidence=f"BMC {server.address}" if server.leds else "the discovery ramdisk",
        at=_at(server) or server.seen_at,
        bmcs=server.leds,
    )


# --- what it is like ------------------------------------------------------------------------------


def _state(scene: Scene, slot: Place, home: Place, server: Server) -> Iterator[Line]:
    """home: where its class is planned. It sits in `slot`."""
    label = scene.label(slot)
    shared = {"serial": server.serial, "bmcs": server.leds, "at": server.inventory_at}
    wanted, given = home.resource_class, server.resource_class
    if wanted and given and wanted != given:
        yield scene.line(
            Kind.WRONG_CLASS,
            f"{label} is of class {given}, {wanted} expected",
            "server",
            slot,
            from_=given,
            to=wanted,
            check="Exchange the server, or correct the plan.",
            evidence=f"node {server.node}",
            **shared,
        )
    if server.misfit:
        what = "; ".join(server.misfit)
        yield scene.line(
            Kind.MISFIT,
            f"{label} differs from its class {given}: {what}",
            "parts",
            slot,
            evidence=f"inventory of {server.name}",
            **shared,
        )
    if server.ailing or server.health not in ("", "OK"):
        what = "; ".join(server.ailing) or f"health {server.health}"
        yield scene.line(
            Kind.AILING,
            f"{label}: {what}",
            "parts",
            slot,
            hint=server.health != "Critical",
            evidence=f"BMC {server.address}" if server.leds else "the discovery ramdisk",
            **shared,
        )
    if server.silent_since:
        yield _silent(scene, slot, server, server.silent_since.strftime("%Y-%m-%d %H:%M UTC"))


def _silent(scene: Scene, slot: Place, server: Server, since: str) -> Line:
    return scene.line(
        Kind.BMC_SILENT,
        f"the BMC of {scene.label(slot)}, {server.address}, does not answer since {since}",
        "BMC",
        slot,
        from_=server.address,
        serial=server.serial,
        check="Its cable, its switch port, the server's power cords.",
        evidence=f"last answer to a sweep at {since}",
        at=server.silent_since,
    )


def _by_cables(scene: Scene, server: Server, slot: Place) -> str:
    planned = set(slot.ports.values())
    there = [jack for jack in server.jacks if jack.port in planned]
    sources = " and ".join(dict.fromkeys(jack.source for jack in there))
    count = f"{len(there)} of {len(server.heard)} cables"
    return f"{server.name} has {count} planned for {scene.label(slot)} ({sources})"


def _at(server: Server) -> datetime | None:
    return min((jack.at for jack in server.jacks if jack.port and jack.at), default=None)
