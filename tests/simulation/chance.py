"""Seeded chance in two forms: a stream for drawing a workload, and draws that are named.

A named draw depends on the seed and its name only. What happens while a world runs is drawn by name (the token, the attempt),
so that leaving something out of a workload changes nothing about the rest: that is what makes shrinking work.

>>> draw(7, "task", "t_1", 1) == draw(7, "task", "t_1", 1)
True
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


def draw(seed: int, *name: str | int) -> float:
    """A number from 0 up to 1."""
    text = "\x1f".join(map(str, (seed, *name)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56


def between(seed: int, low: int, high: int, *name: str | int) -> int:
    """A whole number from `low` to `high`, both included."""
    return low + int(draw(seed, *name) * (high - low + 1))


class Chance:
    """A stream of draws."""

    def __init__(self, *seed: str | int) -> None:
        self._random = random.Random("\x1f".join(map(str, seed)))

    def pick(self, options: Sequence[T]) -> T:
        """One of these, all equally likely."""
        return options[self._random.randrange(len(options))]

    def often(self, options: dict[T, int]) -> T:
        """One of these, by weight."""
        return self._random.choices([*options], [*options.values()])[0]

    def maybe(self, probability: float) -> bool:
        """True as often as that."""
        return self._random.random() < probability

    def number(self, low: int, high: int) -> int:
        """A whole number, both bounds included."""
        return self._random.randint(low, high)
