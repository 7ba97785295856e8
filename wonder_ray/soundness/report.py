"""What is told of a definition's soundness."""

from __future__ import annotations

from typing import Literal

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can go wrong though no task fails; a join that cannot be met counts only where no failure explains it."""

    kind: str
    """`waits_for_ever`, `mutex_deadlock`, `never_completes`, `never_runs`, `left_behind` or `never_joined`."""
    place: str
    """The node or group it is about."""
    message: str
    example: tuple[str, ...] = ()
    """A shortest way there that was found, step by step; none where it is about what never happens."""


class Soundness(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict.

    `sound` when all was seen and nothing is wrong, `unsound` when something is (whether or not all was seen), else `unknown`:
    not all was seen, or something is `undecided`.
    """

    workflow: str
    verdict: Literal["sound", "unsound", "unknown"]
    states: int
    """How many states were seen."""
    bound: int
    """After how many it gives up."""
    complete: bool
    """Whether that was all there are."""
    reason: str | None = None
    """Why it is unknown, or not all was seen."""
    problems: tuple[Problem, ...] = ()
    undecided: tuple[Problem, ...] = ()
    """What may go wrong: data, or counts too large to be explored, decide whether it does."""
