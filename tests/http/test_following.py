"""Many streams of many runs through one question: each event once, in order, whoever comes, goes, or is slow."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies

from tests.events.histories import info, run_id
from wonder_ray.errors import ServiceUnavailableError
from wonder_ray.events.news import News
from wonder_ray.events.query import EventRow
from wonder_ray.http.following import RUNS_MAX, Watch, follow

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LAST = "workflow.completed"
LONG = 60.0


class Histories:
    """Runs in memory. `held`: how many of a run's last rows news can hold, as a log does until they are in files."""

    def __init__(self, *, held: int = 100, rows_max: int = 5) -> None:
        self.rows: dict[str, list[EventRow]] = {}
        self.lost: dict[str, int] = {}
        self.ends: dict[str, int] = {}
        self.asked: list[list[tuple[str, int]]] = []
        self.reads = 0
        self.away = False
        self._held, self._rows_max = held, rows_max

    def append(self, run: str, event_type: str = "token.created") -> None:
        rows = self.rows.setdefault(run, [])
        common = {name: getattr(info(run), name) for name in info(run).__struct_fields__}
        number = len(rows) + 1
        row = EventRow(**common, sequence_number=number, turn=1, turn_now=1, epoch=1, timestamp=1, event_type=event_type)
        rows.append(row)

    async def read(self, run: str, after: int, limit: int) -> list[EventRow]:
        self.reads += 1
        await asyncio.sleep(0)
        return [row for row in self.rows.get(run, [])[after:] if row.sequence_number > self.lost.get(run, 0)][:limit]

    async def ended(self, run: str) -> int | None:
        return self.ends.get(run)

    async def news(self, wanted: list[tuple[str, int]]) -> list[News]:
        if self.away:
            raise ServiceUnavailableError("away")
        self.asked.append(wanted)
        await asyncio.sleep(0)
        left, found = self._rows_max, []
        for run, after in wanted:
            rows = self.rows.get(run, [])
            if after < len(rows) and left > 0:
                here = [] if after < len(rows) - self._held else rows[after : after + left]
                left -= len(here)
                found.append(News(run, after, len(rows), here))
        return found


def watch_of(histories: Histories) -> Watch:
    return Watch(histories, pause_s=0)


async def take(histories: Histories, watch: Watch, run: str, after: int, seen: list[int], most: int | None = None) -> None:
    """Follow a run to its end, or until so many events have been seen."""
    async with aclosing(follow(run, after, watch, histories, seconds=LONG)) as followed:
        async for rows in followed:
            seen += [row.sequence_number for row in rows][: None if most is None else most - len(seen)]
            if most is not None and len(seen) >= most:
                return


async def until(done: Callable[[], Any]) -> None:
    for _ in range(1_000_000):
        if done():
            return
        await asyncio.sleep(0)
    pytest.fail("waited in vain")


def run_alone(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, LONG))


STEPS = strategies.lists(
    strategies.tuples(strategies.sampled_from(["append", "connect", "leave", "turn"]), strategies.integers(0, 3)), max_size=60
)


@given(steps=STEPS, held=strategies.integers(0, 8), rows_max=strategies.integers(1, 4), most=strategies.integers(1, 9))
def test_whatever_is_appended_and_whoever_comes_and_goes_each_event_is_seen_once_in_order(
    steps: list[tuple[str, int]], held: int, rows_max: int, most: int
) -> None:
    async def main() -> None:
        histories = Histories(held=held, rows_max=rows_max)
        watch, runs = watch_of(histories), [run_id(number) for number in range(4)]
        seen: list[tuple[str, int, list[int]]] = []
        tasks: list[asyncio.Task[None]] = []
        for step, number in steps:
            if step == "append":
                histories.append(runs[number])
            elif step == "connect":
                known = len(histories.rows.get(runs[number], [])) // 2
                seen.append((runs[number], known, []))
                tasks.append(asyncio.create_task(take(histories, watch, runs[number], known, seen[-1][2])))
            elif step == "leave" and number < len(tasks):
                tasks[number].cancel()
            else:
                for _ in range(number):
                    await asyncio.sleep(0)
        for run in runs:
            histories.append(run, LAST)
        gone = [task.cancelled() or task.cancelling() > 0 for task in tasks]
        await asyncio.gather(*tasks, return_exceptions=True)
        for (run, after, numbers), left in zip(seen, gone, strict=True):
            whole = list(range(after + 1, len(histories.rows[run]) + 1))
            assert numbers == (whole[: len(numbers)] if left else whole)
        assert not watch._waiting

    run_alone(main())


def test_a_reader_that_is_cut_anywhere_goes_on_from_there() -> None:
    async def main() -> None:
        histories, run, seen = Histories(held=3, rows_max=2), run_id(1), list[int]()
        watch = watch_of(histories)
        for number in range(15):
            histories.append(run, LAST if number == 14 else "token.created")
        for most in range(1, 6):
            part: list[int] = []
            await take(histories, watch, run, len(seen), part, most)
            seen += part
        assert seen == list(range(1, 16))

    run_alone(main())


def test_a_hundred_streams_of_a_hundred_runs_are_one_question_at_a_time() -> None:
    async def main() -> None:
        histories = Histories(rows_max=30)
        watch, runs = watch_of(histories), [run_id(number) for number in range(100)]
        for run in runs:
            histories.append(run)
        seen: list[list[int]] = [[] for _ in runs]
        tasks = [asyncio.create_task(take(histories, watch, run, 0, into)) for run, into in zip(runs, seen, strict=True)]
        await until(lambda: len(watch._waiting) == 100)
        reads, asked = histories.reads, len(histories.asked)
        for run in runs:
            histories.append(run, LAST)
        await asyncio.gather(*tasks)
        assert seen == [[1, 2]] * 100
        assert histories.reads == reads == 100
        assert len(histories.asked) - asked <= 6

    run_alone(main())


def test_a_slow_stream_holds_back_no_other_and_holds_one_answer() -> None:
    async def main() -> None:
        histories, slow, quick = Histories(), run_id(1), run_id(2)
        watch = watch_of(histories)
        stuck = follow(slow, 0, watch, histories, seconds=LONG)
        histories.append(slow)
        assert [row.sequence_number for row in await anext(stuck)] == [1]
        seen: list[int] = []
        task = asyncio.create_task(take(histories, watch, quick, 0, seen))
        for number in range(50):
            histories.append(slow)
            histories.append(quick, LAST if number == 49 else "token.created")
        await task
        assert seen == list(range(1, 51))
        assert not any(run == slow for wanted in histories.asked for run, _ in wanted)
        assert len(await anext(stuck)) <= 5
        await stuck.aclose()

    run_alone(main())


def test_more_runs_than_one_question_takes_have_their_turns() -> None:
    async def main() -> None:
        histories, last = Histories(), run_id(RUNS_MAX + 1)
        watch, seen = watch_of(histories), list[int]()
        crowd = [asyncio.create_task(take(histories, watch, run_id(number), 0, [])) for number in range(RUNS_MAX)]
        task = asyncio.create_task(take(histories, watch, last, 0, seen))
        await until(lambda: len(watch._waiting) > RUNS_MAX)
        histories.append(last, LAST)
        await task
        assert seen == [1]
        for each in crowd:
            each.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)

    run_alone(main())


def test_nobody_is_asked_while_nobody_waits() -> None:
    async def main() -> None:
        histories = Histories()
        watch = watch_of(histories)
        task = asyncio.create_task(take(histories, watch, run_id(1), 0, []))
        await until(lambda: histories.asked)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert watch._asking is not None
        await watch._asking

    run_alone(main())


def test_what_cannot_be_asked_ends_the_streams_and_later_ones_ask_again() -> None:
    async def main() -> None:
        histories, run, seen = Histories(), run_id(1), list[int]()
        watch = watch_of(histories)
        histories.away = True
        with pytest.raises(ServiceUnavailableError):
            await take(histories, watch, run, 0, [])
        histories.away = False
        task = asyncio.create_task(take(histories, watch, run, 0, seen))
        await until(lambda: histories.asked)
        histories.append(run, LAST)
        await task
        assert seen == [1]

    run_alone(main())


def test_a_silent_stream_says_so_and_ends_when_its_run_is_over_or_its_time_is() -> None:
    async def main() -> None:
        histories, run = Histories(), run_id(1)
        watch = watch_of(histories)
        histories.append(run)
        assert [rows async for rows in follow(run, 1, watch, histories, seconds=0.02)] == [[]]
        followed = follow(run, 1, watch, histories, seconds=LONG, heartbeat_s=0.01)
        assert await anext(followed) == []
        histories.ends[run] = 1
        assert [rows async for rows in followed] == []

    run_alone(main())


def test_events_that_are_gone_are_not_looked_for_again_and_again() -> None:
    async def main() -> None:
        histories, run = Histories(held=0), run_id(1)
        watch, seen = watch_of(histories), list[int]()
        for _ in range(10):
            histories.append(run)
        histories.lost[run] = 10
        task = asyncio.create_task(take(histories, watch, run, 0, seen))
        await until(lambda: len(histories.asked) >= 20)
        assert histories.reads == 2
        histories.append(run, LAST)
        await task
        assert seen == [11]

    run_alone(main())
