"""What is new in many runs: from the logs alone, without a hole, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.events.histories import History, run_id
from wonder_ray.errors import WonderError
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.news import News, news
from wonder_ray.events.sealing import EventSettings
from wonder_ray.events.service import EventService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE, TWO, SEALED = History(1, length=40), History(2, length=7), History(3, length=5)
ASKED = [(ONE.run, 30), (TWO.run, 0), (SEALED.run, 0)]


@pytest.fixture
def service(storage: Path) -> Iterator[EventService]:
    """Rows 1 to 30 of the first run, and all of the third, lie in files; what came after, in the log."""
    with EventService(storage, settings=EventSettings(flush_interval_s=0.0)) as service:
        service.submit([ONE.batch(1, 30), SEALED.batch(1, 5)])
        service.flush()
        service.submit([ONE.batch(31, 35), TWO.batch(1, 7)])
        service.submit([ONE.batch(36, 40)])
        yield service


def told(found: list[News]) -> list[tuple[str, int, int, list[int]]]:
    return [(each.run_id, each.after, each.mark, [row.sequence_number for row in each.rows]) for each in found]


def test_each_run_has_its_next_events_and_those_in_files_only_a_mark(service: EventService) -> None:
    assert told(news(service.layout, ASKED)) == [
        (ONE.run, 30, 40, list(range(31, 41))),
        (TWO.run, 0, 7, list(range(1, 8))),
        (SEALED.run, 0, 5, []),
    ]
    assert told(news(service.layout, [(ONE.run, 12)])) == [(ONE.run, 12, 40, [])]
    assert told(news(service.layout, [(ONE.run, 33), (ONE.run, 38), (ONE.run, 38)])) == [
        (ONE.run, 33, 40, list(range(34, 41))),
        (ONE.run, 38, 40, [39, 40]),
    ]


def test_the_rows_are_those_that_a_reader_has(service: EventService) -> None:
    from wonder_ray.events.query import EventReader

    reader = EventReader(service.layout.storage)
    assert news(service.layout, [(ONE.run, 32)])[0].rows == reader.read(ONE.run, 32)


def test_who_knows_everything_or_asks_for_what_nobody_knows_has_no_news(service: EventService) -> None:
    assert news(service.layout, [(ONE.run, 40), (TWO.run, 9), (run_id(9), 0)]) == []
    assert news(EventLayout(service.layout.storage.parent / "nothing"), ASKED) == []


def test_an_answer_is_bounded_and_who_is_first_gets_something(service: EventService) -> None:
    assert told(news(service.layout, ASKED, rows_max=3)) == [(ONE.run, 30, 40, [31, 32, 33])]
    assert told(news(service.layout, ASKED[::-1], rows_max=9)) == [
        (SEALED.run, 0, 5, []),
        (TWO.run, 0, 7, list(range(1, 8))),
        (ONE.run, 30, 40, [31, 32]),
    ]
    assert told(news(service.layout, ASKED, bytes_max=1)) == [(ONE.run, 30, 40, list(range(31, 41)))]


def test_a_run_that_moved_from_one_service_to_another_is_whole(service: EventService, storage: Path) -> None:
    with EventService(storage, instance=service.instance + 1) as successor:
        successor.open(ONE.run, 1)
        moved = History(1, length=44)
        successor.submit([moved.batch(41, 44)])
        assert told(news(service.layout, [(ONE.run, 30)])) == [(ONE.run, 30, 44, list(range(31, 45)))]


def test_an_id_that_is_none_is_refused(service: EventService) -> None:
    with pytest.raises(WonderError, match="not a run id"):
        news(service.layout, [("x' or 1=1", 0)])
