"""How many rounds a sweep takes: against dice, and at its limits."""

import random

import pytest

from provisioning.errors import Invalid
from provisioning.sweep import ASSUMED_LOSS, MOST_ROUNDS, Pace, expected_seconds, rounds


def missed(bmcs: int, loss_each_way: float, dice: random.Random) -> int:
    """One sweep of `bmcs` BMCs by dice: how many were never heard."""
    lost_in_a_round = 1 - (1 - loss_each_way) ** 2
    heard: list[int] = []
    silent, number, enough = bmcs, 0, 2
    while number < enough:
        number += 1
        answers = sum(dice.random() >= lost_in_a_round for _ in range(silent))
        heard += [number] * answers
        silent -= answers
        enough = rounds(len(heard), sum(heard) - len(heard))
    return silent


@pytest.mark.parametrize("bmcs", [1, 2, 5, 20, 200])
@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05])
def test_fewer_than_one_in_a_hundred_sweeps_misses_one(bmcs: int, loss: float) -> None:
    dice, sweeps = random.Random(7), 20000 if bmcs < 20 else 2000  # noqa: S311
    mean = sum(missed(bmcs, loss, dice) for _ in range(sweeps)) / sweeps
    assert mean <= 0.012, "0.01, and the scatter of this many throws"


def test_more_loss_than_assumed_takes_more_rounds() -> None:
    assert rounds(200, 100) > rounds(200, 20)


@pytest.mark.parametrize(
    ("answers", "lost", "needed"),
    [
        pytest.param(0, 0, 2, id="an empty range"),
        pytest.param(1, 0, 3, id="one BMC, no experience of the network"),
        pytest.param(200, 22, 5, id="five percent each way"),
        pytest.param(3000, 0, 2, id="a network that loses nothing"),
        pytest.param(10, 10**6, MOST_ROUNDS, id="a network that loses nearly all"),
    ],
)
def test_rounds(answers: int, lost: int, needed: int) -> None:
    assert rounds(answers, lost) == needed
    assert (answers + 1) * ASSUMED_LOSS**needed < 0.01 or answers == 3000 or needed == MOST_ROUNDS


@pytest.mark.parametrize("rate", [-1.0, 0.01, 1e9, float("nan"), float("inf")])
def test_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(Invalid, match="is no rate") as error:
        Pace(rate)
    assert "--rate 200" in error.value.remedy


def test_the_expected_time_follows_the_rate() -> None:
    addresses = [f"203.0.113.{n}" for n in range(1, 200)]
    slow, fast = (expected_seconds(addresses, Pace(rate, 256)) for rate in (10.0, 0.0))
    assert slow > 2 * len(addresses) / 10
    assert fast < 10
