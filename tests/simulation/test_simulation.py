"""A small part of what `scripts/simulate.py` runs: some seeds, the seeds that once failed, and some planted bugs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.plans import draw_plan, from_json, parts_of, to_json
from tests.simulation.planted import PLANTED
from tests.simulation.running import RULES, carry_out, hunt, run_many, run_seeds, shrink

KEPT = sorted((Path(__file__).parent / "kept").glob("*.json"))
"""Workloads that once broke something, made smaller."""


def test_some_seeds_break_nothing() -> None:
    tally = run_seeds(range(20))
    assert [str(found) for found in tally.found] == []
    assert tally.turns > 300
    assert {rule for rule in RULES if tally.rules[rule]} == set(RULES)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_once_failed_does_not_any_more(path: Path) -> None:
    _, violation = carry_out(from_json(path.read_bytes()))
    assert violation is None


def test_a_plan_comes_back_from_its_file() -> None:
    plan = draw_plan(7)
    assert from_json(to_json(plan)) == plan


def test_a_seed_always_gives_the_same_world() -> None:
    first, second = carry_out(draw_plan(6))[0], carry_out(draw_plan(6))[0]
    assert first.turns > 3
    assert first.sites[0].lines == second.sites[0].lines
    assert (first.now_us, first.struck, first.rules) == (second.now_us, second.struck, second.rules)


@pytest.mark.parametrize("name", ["joins mix instances", "a cancel forgets the last token", "an event is lost"])
def test_a_planted_bug_is_found_and_made_smaller(name: str) -> None:
    found = hunt(name, 0, 60).found
    assert found is not None
    smaller = shrink(found, seconds=3)
    assert smaller.broken == found.broken
    assert 0 < len(smaller.left_out) <= len(parts_of(draw_plan(found.seed)))
    assert smaller.command.startswith(f"scripts/simulate.py --seed {found.seed} --plant '{name}' --without ")


def test_every_rule_and_invariant_has_a_planted_bug() -> None:
    broken = {bug.breaks for bug in PLANTED.values()}
    assert broken >= {*RULES, *(f"I{n}" for n in range(1, 12))}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*PLANTED])
def test_each_planted_bug_is_found(name: str) -> None:
    assert hunt(name, 0, 500).found is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_seeds_break_nothing() -> None:
    tally = run_many(1_000, 600, processes=2)
    assert [str(found) for found in tally.found] == []
