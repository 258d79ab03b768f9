"""A process whose work may kill itself (SIGKILL): it is followed by the next, as a supervisor does.

Each life is a fork of a process that has only imported modules: nothing of an earlier life is left,
and no second of CPU goes into the same imports again.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path


def reborn(life: Callable[[], None], deaths: Path) -> None:
    """Run `life` until it ends otherwise than by SIGKILL; `deaths` gets a line for each SIGKILL.

    SIGTERM reaches the life that runs; `life` sets its own handler.
    """
    child = 0
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True
        if child:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    while not ending:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if child == 0:
            life()
            sys.exit()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        if code != -signal.SIGKILL:
            sys.exit(0 if ending else f"it ended with {code}")
        with deaths.open("a") as file:
            file.write("killed\n")


def deaths_in(deaths: Path) -> int:
    return len(deaths.read_text().splitlines()) if deaths.exists() else 0
