"""A server against a class: does it belong, and how does it differ from the bill of materials?

Each difference is one line for people: "drives: 3 x ssd 960 GB, class wants 4". What no source
tells is a difference, too: what is not known to be right is not handed out.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from provisioning.classes import Bom, DriveLine, Firmware, NicLine, Rules, Span, matches
from provisioning.hardware import Drive, Inventory, Nic

NOT_TOLD: Final = "not told"
MANY: Final = 10**9

Line = DriveLine | NicLine
Part = Drive | Nic
P = TypeVar("P", Drive, Nic)


def strangeness(rules: Rules, seen: Inventory) -> list[str]:
    """The rules that keep this server out of the class; none: it belongs."""
    found = []
    for name in ("vendor", "model", "cpu_model", "cpu_arch"):
        found += _text(name, getattr(rules, name), getattr(seen, name))
    if rules.firmware and rules.firmware != seen.firmware:
        found.append(_wants("firmware", seen.firmware or NOT_TOLD, rules.firmware))
    for name in ("cpu_count", "cpu_threads", "memory_mib"):
        found += _number(name, getattr(rules, name), getattr(seen, name))
    for drives in rules.drives:
        found += _counted("drives", drives, sum(fits(drives, d) for d in seen.drives))
    for nics in rules.nics:
        found += _counted("nics", nics, sum(fits(nics, n) for n in seen.nics))
    return found


def differences(bom: Bom, seen: Inventory) -> list[str]:
    """Where the server is not what the bill of materials says."""
    found = []
    if bom.cpus:
        found += _number("cpus", bom.cpus.count, seen.cpu_count)
        found += _text("cpus", bom.cpus.model, seen.cpu_model)
    found += _number("memory", bom.memory_mib, seen.memory_mib, " MiB")
    if bom.drives is not None:
        found += _parts("drives", bom.drives, seen.drives, drive_in_words)
    if bom.nics is not None:
        found += _parts("nics", bom.nics, seen.nics, nic_in_words)
    found += _firmware("bios", bom.bios, seen.bios_version)
    found += _firmware("bmc", bom.bmc, seen.bmc_version)
    return found


def fits(line: Line, part: Part) -> bool:
    """Is this part of the line's sort? What the part does not tell fits no demand."""
    if line.model is not None and not matches(line.model, part.model):
        return False
    if isinstance(line, DriveLine) and isinstance(part, Drive):
        size = line.sizes()
        return (line.media in (None, part.media)) and (size is None or size.holds(part.size_bytes))
    if isinstance(line, NicLine) and isinstance(part, Nic):
        return line.speed_mbps is None or line.speed_mbps.holds(part.speed_mbps)
    raise TypeError(f"{line!r} is not for {part!r}")


def drive_in_words(drive: Drive) -> str:
    size = f"{round(drive.size_bytes / 10**9)} GB" if drive.size_bytes else "of unknown size"
    return f"{drive.media or 'drive'} {size}"


def nic_in_words(nic: Nic) -> str:
    speed = f"{nic.speed_mbps} Mbit/s" if nic.speed_mbps else "of unknown speed"
    return f"{nic.model or 'NIC'} {speed}"


def _wants(what: str, told: str, wanted: object) -> str:
    return f"{what}: {told}, class wants {wanted}"


def _text(what: str, wanted: tuple[str, ...] | None, told: str) -> list[str]:
    if wanted is None or (told and matches(wanted, told)):
        return []
    return [_wants(what, told or NOT_TOLD, " or ".join(wanted))]


def _number(what: str, wanted: Span | None, told: int, unit: str = "") -> list[str]:
    if wanted is None or (told and wanted.holds(told)):
        return []
    return [_wants(what, f"{told}{unit}" if told else NOT_TOLD, wanted)]


def _counted(what: str, line: Line, count: int) -> list[str]:
    return [] if line.count.holds(count) else [_wants(what, f"{count} x {line}", line.count)]


def _parts(
    what: str, lines: Sequence[Line], parts: Sequence[P], words: Callable[[P], str]
) -> list[str]:
    """Each part counts for one line; what no line takes is too much."""
    parts = sorted(parts, key=lambda p: (words(p), p.model))
    taking = [[n for n, line in enumerate(lines) if fits(line, p)] for p in parts]
    counts, rest = assign(
        taking,
        [line.count.min or 0 for line in lines],
        [MANY if line.count.max is None else line.count.max for line in lines],
    )
    for part in rest:
        if taking[part]:
            counts[taking[part][0]] += 1
    found = [w for line, n in zip(lines, counts, strict=True) for w in _counted(what, line, n)]
    extra = Counter(words(parts[p]) for p in rest if not taking[p])
    return found + [_wants(what, f"{n} x {text}", "none") for text, n in extra.items()]


def assign(
    taking: list[list[int]], least: list[int], most: list[int]
) -> tuple[list[int], list[int]]:
    """As many parts to lines as can be, first up to each line's least; (parts per line, the rest).

    taking: for each part the lines it fits. Augmenting paths: a part may make another one move.
    """
    held: list[list[int]] = [[] for _ in least]

    def place(part: int, room: list[int], tried: set[int]) -> bool:
        for line in taking[part]:
            if line in tried:
                continue
            tried.add(line)
            if len(held[line]) < room[line]:
                held[line].append(part)
                return True
            for other in held[line]:
                if place(other, room, tried):
                    held[line].remove(other)
                    held[line].append(part)
                    return True
        return False

    rest = list(range(len(taking)))
    for room in (least, most):
        rest = [part for part in rest if not place(part, room, set())]
    return [len(parts) for parts in held], rest


def _firmware(what: str, wanted: Firmware | None, told: str) -> list[str]:
    if wanted is None:
        return []
    if not told:
        return [_wants(what, NOT_TOLD, wanted.exact or f"at least {wanted.at_least}")]
    if wanted.exact:
        return [] if told.strip() == wanted.exact.strip() else [_wants(what, told, wanted.exact)]
    order = compared(told, wanted.at_least)
    if order is None:
        return [f"{what}: {told} cannot be compared with {wanted.at_least}, which class wants"]
    return [] if order >= 0 else [_wants(what, told, f"at least {wanted.at_least}")]


def compared(one: str, other: str) -> int | None:
    """Versions by their runs of digits and letters: below, at or above 0; None: not comparable."""
    left, right = _runs(one), _runs(other)
    for a, b in zip(left, right, strict=False):
        if a.isdigit() != b.isdigit():
            return None
        if a.isdigit() and int(a) != int(b):
            return int(a) - int(b)
        if not a.isdigit() and a != b:
            return 1 if a > b else -1
    return len(left) - len(right)


def _runs(version: str) -> list[str]:
    """Zeros at the end say nothing: 2.10 is 2.10.0."""
    runs = re.findall(r"[0-9]+|[a-z]+", version.casefold())
    while runs and runs[-1].isdigit() and int(runs[-1]) == 0:
        runs.pop()
    return runs
