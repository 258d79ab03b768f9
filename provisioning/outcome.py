"""What a reconcile step may answer. A step never waits inside."""

from dataclasses import dataclass

from provisioning.states import ClaimState


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now: look again in `seconds`. `detail` says what for."""

    detail: str
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Move:
    """The claim is now in `state`."""

    state: ClaimState


@dataclass(frozen=True, slots=True)
class Stuck:
    """Only a person can go on. `problem` is a sentence, `remedy` something to type."""

    problem: str
    remedy: str
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """As wanted."""

    detail: str = ""
    seconds: float = 30.0
