"""Following many runs at once: one question to the event service for all of them, however many streams there are.

A stream is a generator that is asked for its next rows only when the last ones are sent, and waits with `Watch.news` once it
has all that is there. So a slow client holds back nobody, and each stream holds the rows of one answer at most.

>>> watch = Watch(backend)  # doctest: +SKIP
>>> async for rows in follow(run_id, 0, watch, history): ...  # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from wonder_ray.reading.standing import ends_run

if TYPE_CHECKING:
    from wonder_ray.events.news import News
    from wonder_ray.events.query import EventRow

PAUSE_SECONDS: Final = 0.2
"""Between two questions: how late an event may be told, and all that many streams of silent runs cost."""
HEARTBEAT_SECONDS: Final = 15.0
"""How long a stream may be silent: proxies close connections that are."""
RUNS_MAX: Final = 1_000
"""Of one question; who has waited longest goes first."""
ROWS_MAX: Final = 1_000


class Source(Protocol):
    """What is asked about all of them."""

    async def news(self, wanted: list[tuple[str, int]]) -> list[News]:
        """See `events.news.news`."""


class History(Protocol):
    """What is asked about one run alone."""

    async def read(self, run_id: str, after: int, limit: int) -> list[EventRow]:
        """Its next events."""

    async def ended(self, run_id: str) -> int | None:
        """The number of its last event, when it has ended."""


class _Waiting:
    """A stream that waits."""

    __slots__ = ("beyond", "told", "wish")

    def __init__(self, run_id: str, after: int, beyond: int) -> None:
        self.wish = (run_id, after)
        self.beyond = beyond
        self.told: asyncio.Future[News] = asyncio.get_running_loop().create_future()

    def tell(self, what: News | Exception) -> None:
        """End its waiting, unless its client has gone."""
        if self.told.done():
            return
        if isinstance(what, Exception):
            self.told.set_exception(what)
        else:
            self.told.set_result(what)


class Watch:
    """Asks for news of all runs that somebody waits for, and tells each what is its own; at rest when nobody waits.

    Args:
        source: Where there are news.
        pause_s: Between two questions.
    """

    def __init__(self, source: Source, *, pause_s: float = PAUSE_SECONDS) -> None:
        self._source = source
        self._pause_s = pause_s
        self._waiting: dict[_Waiting, None] = {}
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    async def news(self, run_id: str, after: int, *, beyond: int, within_s: float) -> News | None:
        """What comes after an event, as soon as something does; None when nothing has after `within_s` seconds.

        Args:
            run_id: The run.
            after: Its last event that is known.
            beyond: A mark that is known already: only a later one is news.
            within_s: How long to wait.

        Raises:
            WonderError: The event service does not answer.
        """
        waiting = _Waiting(run_id, after, max(after, beyond))
        self._waiting[waiting] = None
        self._begin()
        try:
            async with asyncio.timeout(within_s):
                return await waiting.told
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(waiting, None)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not loop:
            self._asking = loop.create_task(self._until_nobody_waits())

    async def _until_nobody_waits(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._asked_at + self._pause_s - time.monotonic())
            self._asked_at = time.monotonic()
            asked = list(self._waiting)[:RUNS_MAX]
            try:
                found = await self._source.news(list({each.wish: None for each in asked}))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told, and none waits for ever
                for each in asked:
                    each.tell(error)
            else:
                self._spread({(news.run_id, news.after): news for news in found}, asked)

    def _spread(self, found: Mapping[tuple[str, int], News], asked: list[_Waiting]) -> None:
        for each in asked:
            news = found.get(each.wish)
            if news is not None and news.mark > each.beyond:
                each.tell(news)
            elif each in self._waiting:  # its client may have gone
                self._waiting[each] = self._waiting.pop(each)  # behind those who were not asked for


async def follow(
    run_id: str, after: int, watch: Watch, history: History, *, seconds: float, heartbeat_s: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[list[EventRow], None]:
    """A run's events after one, each once, in order, until it has ended; no rows where it has been silent for long.

    What is there already is read from the run's own history, and so is what the watch knows of and does not hold.

    Args:
        run_id: The run.
        after: The last event that is known.
        watch: Tells what is new.
        history: Tells of this run alone.
        seconds: How long to follow it at most.
        heartbeat_s: How long it may be silent.
    """
    until = time.monotonic() + seconds
    behind, beyond = True, 0
    while (left := until - time.monotonic()) > 0:
        rows: list[EventRow]
        if behind:
            rows = await history.read(run_id, after, ROWS_MAX)
            behind = len(rows) == ROWS_MAX
        elif (news := await watch.news(run_id, after, beyond=beyond, within_s=min(heartbeat_s, left))) is not None:
            rows, behind = news.rows, not news.rows
            beyond = news.mark if behind else 0
        else:
            last = await history.ended(run_id)
            if last is not None and after >= last:
                return
            behind = last is not None
            yield []
            continue
        if rows:
            after = rows[-1].sequence_number
            yield rows
            if ends_run(rows[-1].event_type):
                return
