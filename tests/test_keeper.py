"""A chore is done now and then, whatever it raises, and ends when it is told to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wonder_ray.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import WaitUntil


def test_it_comes_again_after_an_error(wait_until: WaitUntil) -> None:
    calls: list[str] = []
    errors: list[Exception] = []

    def chore(_stopping: Callable[[], bool]) -> None:
        calls.append("chore")
        raise ValueError("no luck")

    keeper = Keeper("test", chore, every_s=0.01, first_s=0.0, on_error=errors.append, at_start=lambda: calls.append("start"))
    keeper.start()
    wait_until(lambda: len(errors) >= 3)
    keeper.stop()
    assert calls[:2] == ["start", "chore"]
    ended = len(calls)
    keeper.stop()
    assert len(calls) == ended


def test_never_is_never_but_the_start_is_not_left_out(wait_until: WaitUntil) -> None:
    calls: list[str] = []
    keeper = Keeper("test", lambda _: calls.append("chore"), every_s=0, on_error=print, at_start=lambda: calls.append("start"))
    keeper.start()
    wait_until(lambda: threading.active_count() and calls == ["start"])
    keeper.stop()
    assert calls == ["start"]


def test_a_chore_learns_that_it_is_to_stop(wait_until: WaitUntil) -> None:
    began = threading.Event()
    told: list[bool] = []

    def chore(stopping: Callable[[], bool]) -> None:
        began.set()
        wait_until(stopping)
        told.append(True)

    keeper = Keeper("test", chore, every_s=3600, first_s=0.0, on_error=print)
    keeper.stop()  # before its start: nothing to wait for
    keeper = Keeper("test", chore, every_s=3600, first_s=0.0, on_error=print)
    keeper.start()
    assert began.wait(10)
    keeper.stop()
    assert told == [True]
