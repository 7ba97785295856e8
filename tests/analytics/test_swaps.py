"""SQL, while days are being compacted or removed: every step of a swap, held open for as long as it takes to look."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.events.crashes import CrashAt, CrashError
from tests.events.kept import KEEP, Past, clock_at, date, files, store
from tests.events.test_readers import PARTS, scatter
from wonder_ray.analytics.events import Events
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.maintenance import Maintenance
from wonder_ray.events.survey import take_survey
from wonder_ray.events.swaps import SWAP_FAILPOINTS, begin, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PASTS = [Past(1, 0, 1, rows=6), Past(2, 0, 0, rows=6), Past(3, 1, 1, rows=6)]
OLD, YOUNG = Past(1, 0, 0, rows=6), Past(3, 95, 95, rows=2)
BY_DAY = (
    "SELECT CAST(date AS VARCHAR), count(*), count(DISTINCT (workflow_run_id, sequence_number)) FROM events GROUP BY 1 ORDER BY 1"
)
WHOLE = [(date(0), 12, 12), (date(1), 12, 12)]


@pytest.fixture(params=["swaps", "it's [odd] *{a}? $x 'é"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


@pytest.fixture
def events(folder: Path) -> Iterator[Events]:
    found = Events(folder)
    yield found
    found.close()


def maintain(folder: Path, failpoint: Callable[[str], None] = lambda _: None, day: float = 3) -> None:
    made = Maintenance(folder, retention=KEEP, clock=clock_at(day), grace_s=0.0, failpoint=failpoint)
    made.run(live=set(), trust_clock=True)


def test_every_row_is_found_once_at_every_step_of_a_compaction(folder: Path, events: Events) -> None:
    store(folder, PASTS, files_a_day=3)
    assert events.sql(BY_DAY).rows == WHOLE
    steps: list[str] = []

    def look(step: str) -> None:
        steps.append(step)
        for asked in (events, Events(folder)):  # one that has the old files in its memory, and one that has not
            assert asked.sql(BY_DAY).rows == WHOLE
            assert [row["events"] for row in asked.sql("FROM runs ORDER BY workflow_run_id").dicts()] == [12, 6, 6]

    maintain(folder, look)
    assert list(dict.fromkeys(steps)) == list(SWAP_FAILPOINTS)
    assert files(folder) == {date(0): 1, date(1): 1}
    assert events.sql(BY_DAY).rows == WHOLE


def test_a_day_is_there_or_gone_at_every_step_of_its_removal(folder: Path, events: Events) -> None:
    store(folder, [OLD, YOUNG], files_a_day=3)
    before, after = [(date(0), 6, 6), (date(95), 2, 2)], [(date(95), 2, 2)]
    assert events.sql(BY_DAY).rows == before
    steps: list[str] = []

    def look(step: str) -> None:
        steps.append(step)
        assert events.sql(BY_DAY).rows == Events(folder).sql(BY_DAY).rows == after

    maintain(folder, look, day=100)
    assert list(dict.fromkeys(steps)) == list(SWAP_FAILPOINTS)


def test_when_the_only_day_goes_the_view_is_empty(folder: Path, events: Events) -> None:
    store(folder, [OLD], files_a_day=3)
    maintain(folder, lambda _: check_empty(events), day=100)
    check_empty(events)


def check_empty(events: Events) -> None:
    assert events.sql(BY_DAY).rows == []
    assert events.report("cost").rows == []


@pytest.mark.parametrize("step", SWAP_FAILPOINTS)
def test_what_a_crash_has_left_is_read_for_as_long_as_it_lies_there(folder: Path, step: str) -> None:
    store(folder, PASTS, files_a_day=3)
    with pytest.raises(CrashError):
        maintain(folder, CrashAt(step, 1))
    assert Events(folder).sql(BY_DAY).rows == WHOLE


def test_no_query_fails_or_is_wrong_beside_swaps_without_an_end(storage: Path) -> None:
    store(storage, PASTS, files_a_day=PARTS)
    layout, ended, rounds = EventLayout(storage), threading.Event(), [0]
    failed: list[Exception] = []

    def churn() -> None:
        try:
            while not ended.is_set():
                maintain(storage)
                swaps = [scatter(layout, day) for day in take_survey(layout).days("events")]
                for swap in swaps:
                    begin(layout, swap)
                carry_out(layout, swaps, grace_s=0.05)
                rounds[0] += 1
        except Exception as error:  # noqa: BLE001 - it is told below
            failed.append(error)

    writer = threading.Thread(target=churn)
    writer.start()
    events = Events(storage)
    try:
        for _ in range(60):
            assert events.sql(BY_DAY).rows == WHOLE
            assert len(events.report("cost")) == 0
    finally:
        ended.set()
        writer.join()
    assert failed == []
    assert rounds[0] > 1
