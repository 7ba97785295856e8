"""What is new in many runs at once: asked every moment for whoever follows them, so it looks into the logs alone.

>>> news(EventLayout("storage"), [("run_0192f0c1a2b3_0123456789abcdef", 3)])  # doctest: +SKIP
[News(run_id='run_0192f0c1a2b3_0123456789abcdef', after=3, mark=5, rows=[EventRow(...), EventRow(...)])]
"""

from __future__ import annotations

from itertools import count, takewhile
from typing import TYPE_CHECKING, Final, cast

import msgspec

from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.query import EventRow, rows_of
from wonder_ray.ids import check_run_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.events.layout import EventLayout

ROWS_MAX: Final = 1_000
BYTES_MAX: Final = 4 * 1024 * 1024
"""Of the stored lines that one answer is made of; the batch that exceeds it is still whole."""
RUNS_MAX: Final = 1_000


class News(msgspec.Struct, frozen=True):
    """A run that has more than its follower knows.

    Attributes:
        run_id: The run.
        after: What the follower knows, as it said.
        mark: The last event that is durable.
        rows: The next events, without a hole. None where they do not lie in a log any more: `EventReader.read` finds them.
    """

    run_id: str
    after: int
    mark: int
    rows: list[EventRow]


def news(
    layout: EventLayout, wanted: Sequence[tuple[str, int]], *, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX
) -> list[News]:
    """The runs of `(run, after)` that have more events, in that order, with the next ones; bounded, so perhaps not all of them.

    Who is left out has only to ask again, before those who were told something: the first that has news is always told.

    Args:
        layout: Of the storage.
        wanted: Runs, and the last event of each that is known; at most `RUNS_MAX` are looked at.
        rows_max: Of all rows of the answer.
        bytes_max: Of what the answer is made of.
    """
    asked = list(dict.fromkeys(wanted))[:RUNS_MAX]
    for run_id, _ in asked:
        check_run_id(run_id)
    while True:
        found = _Found(asked, rows_max, bytes_max)
        if all(CommitLog.visit(path, found.look) for path in layout.logs()):
            return found.told()


class _Found:
    """What the logs hold, one after the other."""

    def __init__(self, asked: list[tuple[str, int]], rows_max: int, bytes_max: int) -> None:
        self._asked = asked
        self._runs = list({run_id for run_id, _ in asked})
        self._marks: dict[str, int] = {}
        self._rows: dict[tuple[str, int], dict[int, EventRow]] = {}
        self._rows_left = rows_max
        self._bytes_left = bytes_max

    def look(self, log: CommitLog) -> None:
        """Note what a log holds."""
        marks = log.last_of(self._runs, "events")
        for run_id, mark in marks.items():
            self._marks[run_id] = max(mark, self._marks.get(run_id, 0))
        for run_id, after in self._asked:
            if after < marks.get(run_id, 0) and self._rows_left > 0 and self._bytes_left > 0:
                self._read(log, run_id, after)

    def _read(self, log: CommitLog, run_id: str, after: int) -> None:
        rows = self._rows.setdefault((run_id, after), {})
        last = after + self._rows_left
        for stored in log.batches_of_run(run_id, "events", after, last):
            more = cast("list[EventRow]", list(rows_of("events", stored, after, last)))
            rows.update((row.sequence_number, row) for row in more)
            self._rows_left -= len(more)
            self._bytes_left -= len(stored.lines)

    def told(self) -> list[News]:
        """The answer: of those for whom there was room."""
        return [
            News(run_id, after, self._marks[run_id], [rows[number] for number in takewhile(rows.__contains__, count(after + 1))])
            for (run_id, after), rows in self._rows.items()
        ]
