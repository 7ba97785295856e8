"""Pattern behaviour (S1 to S11) on the core: every arrival order, and a coordinator that is killed after any turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cases import s_definitions as cases
from tests.cases.running import check, run_in_time
from tests.core import CoreRun, every_order, random_order

if TYPE_CHECKING:
    from tests.cases.words import Case

ALL = cases.s_cases()
SMALL = [case for case in ALL if case.name in {"s1-f1-last", "s3", "s4", "s4-multi-merge", "s5-a1-slow", "s9-all", "s11-g2-slow"}]


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", ALL, ids=named)
def test_a_case_comes_out_as_it_must(case: Case) -> None:
    check(case, run_in_time(case))


@pytest.mark.parametrize("case", ALL, ids=named)
def test_a_case_survives_a_crash_after_every_turn(case: Case) -> None:
    check(case, run_in_time(case, crash_every_turn=True), in_time=False)


@pytest.mark.parametrize("case", ALL, ids=named)
def test_a_case_survives_a_crash_after_any_one_turn(case: Case) -> None:
    for turn in range(1, run_in_time(case).turns):
        check(case, run_in_time(case, crash_at=turn), in_time=False)


@pytest.mark.parametrize("case", SMALL, ids=named)
def test_a_small_case_comes_out_the_same_in_every_order_of_arrival(case: Case) -> None:
    for order in every_order():
        check(case, CoreRun(case.definition, case.actions, order=order).run(case.input), in_time=False)


@pytest.mark.parametrize("case", ALL, ids=named)
def test_a_case_comes_out_the_same_in_random_orders_with_crashes(case: Case) -> None:
    for seed in range(25):
        run = CoreRun(case.definition, case.actions, order=random_order(seed), crash_at=1 + seed % 19).run(case.input)
        check(case, run, in_time=False)


@pytest.mark.parametrize("slow", ["a1", "a3"])
def test_s5_the_join_fires_before_the_slow_branch_has_ended(slow: str) -> None:
    run = run_in_time(cases.s5(slow))
    assert run.position("task.dispatched", "last") < run.position("token.completed", slow)


def test_s6_late_branches_of_the_first_round_do_not_fire_the_second() -> None:
    run = run_in_time(cases.s6())
    seconds = run.positions("task.dispatched", "join")
    assert seconds[1] < min(run.positions("token.completed", "f2")), "both rounds are fired by f1"


def test_s9_the_partial_join_fires_at_exactly_the_fourth_arrival() -> None:
    case = cases.s9_partial()
    run = CoreRun(case.definition, case.actions)
    run.start(case.input)
    while not run.of("join"):
        ended = len(run.positions("token.completed", "g1")) + len(run.positions("token.completed", "g2"))
        assert ended < 4
        run.step()
    assert len(run.positions("token.completed", "g1")) + len(run.positions("token.completed", "g2")) == 4


def test_s11_the_join_does_not_wait_for_what_cannot_come() -> None:
    run = run_in_time(cases.s11("f1"))
    assert run.position("token.completed", "foo") < run.position("task.dispatched", "join")
    assert len(run.positions("fan_in.completed", "join")) == 1
