"""What is measured of a run: wall time, CPU time of everything it started, memory."""

import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROUNDS = 3
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One round: its value in the row's unit, and CPU seconds, 0 where they say nothing."""

    value: float
    cpu: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of output. peer and what follows from it are None where there is no peer."""

    row: str
    ours: float
    unit: str
    peer: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None


def compared(name: str, unit: str, ours: list[Figure], peer: list[Figure]) -> Row:
    """Medians of all rounds, ours against the peer's (which may have none)."""
    mine = median(f.value for f in ours)
    if not peer:
        return Row(name, round(mine, 2), unit)
    theirs = median(f.value for f in peer)
    cpu = median(f.cpu for f in peer)
    return Row(
        name,
        round(mine, 2),
        unit,
        round(theirs, 2),
        round(mine / theirs, 2),
        round(median(f.cpu for f in ours) / cpu, 2) if cpu else None,
    )


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds of living processes and of their children that ended (proc(5), 14 to 17)."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def cpu_here() -> float:
    """CPU seconds of this process and of its children that ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)
