"""Who has the machine's cores: the chain until its servers are deployed, then the room beside it.

Two servers were inspected within 175 s where two others booted beside them took 513 (two cores,
2026-11-30): four emulated at once are slower than two and then two. While the chain waits for the
end of a lease its two are idle, for longer than the room's first two take.
"""

from pathlib import Path

from tests.fakes.machine import until

CHAIN_SECONDS = 3600


class Turn:
    """together: the chain runs in one process and the room in another; else nobody waits."""

    def __init__(self, folder: Path, *, together: bool) -> None:
        self.given, self.together = folder / "the-chain-has-deployed", together

    def give(self) -> None:
        """The chain's servers are deployed, or it is over."""
        if self.together:
            self.given.touch()

    def wait(self) -> None:
        if self.together:
            until(self.given.exists, CHAIN_SECONDS, "the chain's servers are deployed")
