"""Who has the machine's cores: the chain until its servers are deployed, then the room beside it.

Four servers at once are no quicker than two and then two; later the chain often waits for one.
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
