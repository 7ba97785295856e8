"""Data, failure, retry and timeout behaviour (A1 to A8) on the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cases import a_definitions as cases
from tests.cases.running import check, run_in_time
from tests.core import CoreRun, every_order, random_order

if TYPE_CHECKING:
    from tests.cases.words import Case

ALL = cases.a_cases()
UNTIMED = [case for case in ALL if not case.name.startswith("a8")]
SMALL = [case for case in UNTIMED if case.name in {"a1-order", "a3-1", "a3-3", "a5-handled", "a5-unhandled", "a7"}]


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", ALL, ids=named)
def test_a_case_comes_out_as_it_must(case: Case) -> None:
    check(case, run_in_time(case))


@pytest.mark.parametrize("case", ALL, ids=named)
def test_a_case_survives_a_crash_after_any_one_turn(case: Case) -> None:
    for turn in range(1, run_in_time(case).turns):
        check(case, run_in_time(case, crash_at=turn), in_time=not case.name.startswith("a8"))


@pytest.mark.parametrize("case", UNTIMED, ids=named)
def test_a_case_survives_a_crash_after_every_turn(case: Case) -> None:
    check(case, run_in_time(case, crash_every_turn=True))


@pytest.mark.parametrize("case", SMALL, ids=named)
def test_a_small_case_comes_out_the_same_in_every_order_of_arrival(case: Case) -> None:
    for order in every_order():
        check(case, CoreRun(case.definition, case.actions, order=order).run(case.input), in_time=False)


@pytest.mark.parametrize("case", UNTIMED, ids=named)
def test_a_case_comes_out_the_same_in_random_orders_with_crashes(case: Case) -> None:
    for seed in range(25):
        run = CoreRun(case.definition, case.actions, order=random_order(seed), crash_at=1 + seed % 19).run(case.input)
        check(case, run, in_time=False)


def test_a4_nothing_is_spawned_over_what_is_no_list() -> None:
    run = run_in_time(cases.a4({"foo": "bar"}))
    assert not run.events("fan_out.started")
    assert run.error is not None
    assert run.error.node_id == "first"


def test_a5_the_normal_successor_does_not_run_and_the_slow_branch_is_told_to_stop() -> None:
    run = run_in_time(cases.a5(handled=True))
    assert run.completed["end"] == 0
    assert [row["node_id"] for row in run.events("token.cancelled")] == ["good"]


def test_a7_items_after_the_failure_never_start() -> None:
    run = run_in_time(cases.a7())
    assert run.started.count("each") == 5
    assert run.most_flying["each"] == 1


def test_a8_the_task_that_ran_out_of_time_is_told_to_stop_and_its_result_refused() -> None:
    case = cases.a8_step()
    run = run_in_time(case)
    assert run.clock.now_us() - (run.state.run.started_us or 0) == 500_000
    assert [row["node_id"] for row in run.events("token.timed_out")] == ["long"]
