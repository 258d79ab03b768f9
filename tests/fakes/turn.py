"""Who has the machine's cores: the chain, and then the room beside what is left of it.

Six servers at once are no quicker than three and then three, and nothing is idle at the end.
"""

from pathlib import Path

from tests.fakes.machine import until

CHAIN_SECONDS = 3600


class Turn:
    """together: the chain runs in one process and the room in another; else nobody waits."""

    def __init__(self, folder: Path, *, together: bool) -> None:
        self.given, self.together = folder / "the-chain-leaves-a-core", together

    def give(self) -> None:
        """There is one server left to boot, or the chain is over."""
        if self.together:
            self.given.touch()

    def wait(self) -> None:
        if self.together:
            until(self.given.exists, CHAIN_SECONDS, "the chain leaves a core")
