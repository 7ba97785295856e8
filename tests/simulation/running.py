"""Runs seeds: one, many in several processes, and one that fails made smaller."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final

import msgspec

from tests.simulation.plans import draw_plan, parts_of, without
from tests.simulation.planted import PLANTED, planted
from tests.simulation.violations import Violation
from tests.simulation.world import START_US, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.simulation.plans import Plan

RULES: Final = tuple(f"R{n}" for n in range(1, 12))
CHUNK: Final = 25
"""Seeds per piece of work of a process."""


class Found(msgspec.Struct, frozen=True):
    """A violation, and how to see it again."""

    seed: int
    broken: str
    message: str
    left_out: tuple[str, ...] = ()
    planted: str | None = None

    @property
    def command(self) -> str:
        """One line that reproduces it."""
        bug = [] if self.planted is None else ["--plant", f"'{self.planted}'"]
        less = ["--without", ",".join(self.left_out)] if self.left_out else []
        return " ".join(["scripts/simulate.py", "--seed", str(self.seed), *bug, *less])


class Tally(msgspec.Struct):
    """What some seeds came to."""

    seeds: int = 0
    turns: int = 0
    simulated_us: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    rules: Counter[str] = msgspec.field(default_factory=Counter)
    found: list[Found] = msgspec.field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take another one in."""
        self.seeds += other.seeds
        self.turns += other.turns
        self.simulated_us += other.simulated_us
        self.faults.update(other.faults)
        self.rules.update(other.rules)
        self.found += other.found


def carry_out(plan: Plan) -> tuple[World, Violation | None]:
    """Run one workload; the world as it is at its end, and what is broken."""
    world = World(plan)
    try:
        world.run()
    except Violation as violation:
        return world, violation
    return world, None


def run_seeds(seeds: Iterable[int]) -> Tally:
    """Run some seeds, each to its end."""
    tally = Tally()
    for seed in seeds:
        world, violation = carry_out(draw_plan(seed))
        tally.seeds += 1
        tally.turns += world.turns
        tally.simulated_us += world.now_us - START_US
        tally.faults.update(world.struck)
        tally.rules.update(world.rules)
        if violation is not None:
            tally.found.append(Found(seed, violation.broken, violation.message))
    return tally


def run_many(start: int, seeds: int, processes: int) -> Tally:
    """Run many seeds in several processes."""
    chunks = [range(first, min(first + CHUNK, start + seeds)) for first in range(start, start + seeds, CHUNK)]
    total = Tally()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for tally in pool.map(run_seeds, chunks):
            total.add(tally)
    return total


# --- smaller -------------------------------------------------------------------------------------------------------


def shrink(found: Found, *, seconds: float = 60.0) -> Found:
    """Leave out of a workload what can be left out while the same thing stays broken."""
    plan = draw_plan(found.seed)
    with planted(found.planted) if found.planted is not None else contextlib.nullcontext():
        return _shrink(plan, found, time.monotonic() + seconds)


def _shrink(plan: Plan, found: Found, until: float) -> Found:
    """First large pieces, then single ones; again, as long as that helps."""
    size = max(1, len(parts_of(plan)) // 2)
    while size and time.monotonic() < until:
        left = [part for part in parts_of(plan) if part not in found.left_out]
        smaller = found
        for at in range(0, len(left), size):
            if time.monotonic() > until:
                break
            smaller = _try_without(plan, smaller, left[at : at + size]) or smaller
        size = size if smaller is not found and size == 1 else size // 2
        found = smaller
    return found


def _try_without(plan: Plan, found: Found, more: Sequence[str]) -> Found | None:
    left_out = (*found.left_out, *more)
    smaller = without(plan, left_out)
    if smaller is None:
        return None
    _, violation = carry_out(smaller)
    if violation is None or violation.broken != found.broken:
        return None
    return msgspec.structs.replace(found, message=violation.message, left_out=left_out)


# --- planted bugs --------------------------------------------------------------------------------------------------


class Hunt(msgspec.Struct, frozen=True):
    """How a planted bug was found, or that it was not."""

    name: str
    breaks: str
    seeds: int
    """Seeds that were run until it was found (or in all)."""
    found: Found | None


def hunt(name: str, start: int, seeds_max: int) -> Hunt:
    """Run seeds with a bug planted until it is found."""
    bug = PLANTED[name]
    with planted(name):
        for nth in range(seeds_max):
            _, violation = carry_out(draw_plan(start + nth))
            if violation is not None:
                return Hunt(name, bug.breaks, nth + 1, Found(start + nth, violation.broken, violation.message, (), name))
    return Hunt(name, bug.breaks, seeds_max, None)


def hunt_all(start: int, seeds_max: int, processes: int, names: Sequence[str]) -> list[Hunt]:
    """Hunt planted bugs in several processes."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(hunt, names, [start] * len(names), [seeds_max] * len(names)))
