"""`report_usage`: what actions say they have used, in every form that an action can have."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.executor.test_runner import run
from wonder_ray.errors import WonderError
from wonder_ray.executor.context import report_usage

if TYPE_CHECKING:
    from wonder_ray.executor.protocol import Outcome


def used(outcomes: list[Outcome]) -> list[tuple[int | None, float | None]]:
    return [(outcome.tokens, outcome.cost_usd) for outcome in outcomes]


@pytest.mark.parametrize("is_async", [False, True])
def test_usage_adds_up_in_each_call_and_is_kept_apart_between_them(is_async: bool) -> None:
    def act(n: int) -> None:
        report_usage(tokens=n, cost_usd=0.5)
        report_usage(tokens=1)

    async def act_async(n: int) -> None:
        await asyncio.sleep(0)
        act(n)
        await asyncio.sleep(0)
        report_usage(cost_usd=0.25)

    outcomes = run(act_async if is_async else act, {"n": 10}, {"n": 20})
    assert used(outcomes) == [(11, 0.75), (21, 0.75)] if is_async else [(11, 0.5), (21, 0.5)]


@pytest.mark.parametrize("amount", [{"tokens": -1}, {"tokens": 1.5}, {"cost_usd": -0.1}, {"cost_usd": float("nan")}])
def test_usage_that_cannot_be_is_the_error_of_the_action_that_reports_it(amount: dict[str, Any]) -> None:
    def act() -> None:
        report_usage(tokens=3)
        report_usage(**amount)

    (outcome,) = run(act, {})
    assert outcome.error is not None
    assert outcome.error.type == "ValueError"
    assert "counted upwards" in outcome.error.message
    assert (outcome.tokens, outcome.cost_usd) == (3, None)


def test_usage_that_no_event_can_hold_is_refused_when_it_is_reported() -> None:
    def act(tokens: int, cost_usd: float) -> None:
        report_usage(tokens=1, cost_usd=1.0)
        report_usage(tokens=tokens, cost_usd=cost_usd)

    given = [(2**63 - 1, 0.0), (1, 1.79e308), (2**63 - 2, 0.0)]
    outcomes = run(act, *({"tokens": tokens, "cost_usd": cost_usd} for tokens, cost_usd in given))
    assert [outcome.error and outcome.error.type for outcome in outcomes] == ["ValueError", None, None]
    assert [outcome.tokens for outcome in outcomes] == [1, 2, 2**63 - 1]


def test_usage_outside_an_action_is_an_error_that_says_so() -> None:
    with pytest.raises(WonderError, match="works inside an action only"):
        report_usage(tokens=1)

    def report() -> None:
        with pytest.raises(WonderError, match="works inside an action only"):
            report_usage(tokens=1)
        refused.append(True)

    def act() -> None:
        thread = threading.Thread(target=report)
        thread.start()
        thread.join()

    refused: list[bool] = []
    (outcome,) = run(act, {})
    assert (outcome.error, outcome.tokens, refused) == (None, None, [True])


def test_usage_of_threads_of_an_async_action_adds_up() -> None:
    def count() -> None:
        for _ in range(500):
            report_usage(tokens=1)

    async def act(n: int) -> int:
        await asyncio.gather(*(asyncio.to_thread(count) for _ in range(n)))
        return n

    (outcome,) = run(act, {"n": 8})
    assert outcome.error is None
    assert outcome.tokens == 4000


def test_usage_of_a_failed_attempt_counts() -> None:
    def act() -> NoReturn:
        report_usage(tokens=7)
        raise ValueError

    (outcome,) = run(act, {})
    assert outcome.error is not None
    assert (outcome.tokens, outcome.cost_usd) == (7, None)
