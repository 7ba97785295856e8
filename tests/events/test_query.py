from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.events.histories import DAY_US, History, run_id
from wonder_ray.errors import StorageError, WonderError
from wonder_ray.events.query import EventReader
from wonder_ray.events.sealing import EventSettings
from wonder_ray.events.service import EventService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wonder_ray.events.commit_log import CommitLog

EAGER = EventSettings(flush_interval_s=0.0)
HISTORY = History(length=40, step_us=DAY_US // 10)
OTHER = History(2, length=7)


@pytest.fixture
def service(storage: Path) -> Iterator[EventService]:
    """Rows 1 to 30 are sealed in several files, 31 to 40 lie in the log."""
    with EventService(storage, settings=EAGER) as service:
        for first in (1, 11, 21):
            service.submit([HISTORY.batch(first, first + 9)])
            service.flush()
        service.submit([HISTORY.batch(31, 40), OTHER.batch(1, 7)])
        yield service


@pytest.fixture
def reader(service: EventService) -> EventReader:
    return EventReader(service.layout.storage)


def numbers(reader: EventReader, after: int = 0, limit: int | None = None) -> list[int]:
    return [row.sequence_number for row in reader.read(HISTORY.run, after, limit)]


def test_a_run_is_read_from_files_and_log_together(reader: EventReader) -> None:
    assert numbers(reader) == list(range(1, 41))


@pytest.mark.parametrize(("after", "limit"), [(0, 1), (0, 25), (25, 10), (33, 3), (38, 10), (40, 10), (100, None), (5, 0)])
def test_pages_are_slices(reader: EventReader, after: int, limit: int | None) -> None:
    assert numbers(reader, after, limit) == list(range(1, 41))[after:][:limit]


def test_an_empty_storage_is_empty(tmp_path: Path) -> None:
    reader = EventReader(tmp_path / "nothing")
    assert (reader.read(run_id(1)), reader.runs(), reader.last_sequence(run_id(1))) == ([], {}, 0)


def test_runs_and_last_sequences_count_what_is_not_sealed(reader: EventReader) -> None:
    assert reader.runs() == {HISTORY.run: 40, OTHER.run: 7}
    assert reader.last_sequence(HISTORY.run) == 40


def test_rows_that_are_in_no_file_are_counted(service: EventService, reader: EventReader) -> None:
    assert reader.unsealed() == 17
    service.flush()
    assert reader.unsealed() == 0


def test_files_alone_are_enough(service: EventService, storage: Path) -> None:
    service.close()
    for path in storage.glob("eventlog/1.sqlite*"):
        path.unlink()
    reader = EventReader(storage)
    assert numbers(reader) == list(range(1, 41))
    assert reader.runs() == {HISTORY.run: 40, OTHER.run: 7}
    assert reader.last_sequence(HISTORY.run) == 40


def test_only_the_files_of_the_run_are_read(reader: EventReader, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[int] = []
    scan = reader._scan

    def watch(stream: Any, names: set[str], *rest: Any) -> Any:
        scanned.append(len(names))
        return scan(stream, names, *rest)

    monkeypatch.setattr(reader, "_scan", watch)
    assert len(reader.read(OTHER.run)) == 7
    assert scanned == [0]


def test_an_id_that_is_none_is_refused(reader: EventReader) -> None:
    with pytest.raises(WonderError, match="not a run id"):
        reader.read("x' or 1=1")


def test_rows_sealed_between_the_looks_at_log_and_files_are_there_once(
    reader: EventReader, service: EventService, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = reader._visit_logs

    def seal_after(look: Callable[[CommitLog], None]) -> None:
        visit(look)
        service.flush()

    monkeypatch.setattr(reader, "_visit_logs", seal_after)
    assert numbers(reader) == list(range(1, 41))


def test_rows_sealed_while_the_log_is_read_are_there_once(
    reader: EventReader, service: EventService, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = reader._visit_logs

    def seal_before(look: Callable[[CommitLog], None]) -> None:
        service.flush()
        visit(look)

    monkeypatch.setattr(reader, "_visit_logs", seal_before)
    assert numbers(reader) == list(range(1, 41))


def test_a_hole_that_comes_from_a_log_not_seen_is_looked_at_again(
    reader: EventReader, service: EventService, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = reader._visit_logs
    looks: list[int] = []

    def overlook_once(look: Callable[[CommitLog], None]) -> None:
        looks.append(1)
        if len(looks) > 1:
            visit(look)

    with EventService(storage, instance=2, settings=EAGER) as second:
        longer = History(length=45, step_us=DAY_US // 10)
        second.submit([longer.batch(41, 45)])
        second.flush()
        monkeypatch.setattr(reader, "_visit_logs", overlook_once)
        assert numbers(reader) == list(range(1, 46))
        assert len(looks) == 2


def test_days_that_retention_removed_leave_the_rest_readable(reader: EventReader, service: EventService, storage: Path) -> None:
    service.close()
    kept = numbers(reader)[15:]
    for path in sorted(storage.glob("events/*/*.parquet"))[:2]:
        path.unlink()
    with pytest.raises(StorageError, match="missing"):
        numbers(reader)
    for path in storage.glob("eventlog/1.sqlite*"):
        path.unlink()
    left = numbers(reader)
    assert left
    assert set(left) >= set(kept)
    assert numbers(reader, limit=3) == left[:3]


def test_a_continuous_reader_beside_a_busy_service_never_sees_a_hole_or_a_double(storage: Path) -> None:
    history = History(5, length=1500)
    done = threading.Event()
    wrong: list[list[int]] = []
    looks = 0

    def read() -> None:
        nonlocal looks
        reader = EventReader(storage)
        last = 0
        while not done.is_set():
            found = [row.sequence_number for row in reader.read(history.run)]
            if found != list(range(1, len(found) + 1)) or len(found) < last:
                wrong.append(found)
            last = len(found)
            looks += 1

    service = EventService(storage, instance=1, settings=EAGER)
    thread = threading.Thread(target=read)
    thread.start()
    for first in range(1, 1500, 30):
        service.submit([history.batch(first, first + 29)])
        if first % 90 == 1:
            service.flush_soon()
        if first % 450 == 1:
            service.abandon()
            service = EventService(storage, instance=service.instance + 1, settings=EAGER)
    service.close()
    done.set()
    thread.join()
    assert looks > 0
    assert wrong == []
    assert EventReader(storage).last_sequence(history.run) == 1500
