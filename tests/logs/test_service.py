"""The service: bounded, never blocking, never raising; what it drops it counts and reports."""

from __future__ import annotations

import json
import shutil
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wonder_ray.clock import SimulatedClock
from wonder_ray.logs.query import LogReader
from wonder_ray.logs.service import LogService, ServiceLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wonder_ray.logs.record import LogLine

FAST = ServiceLimits(retry_s_min=0.001, retry_s_max=0.01)


@pytest.fixture
def start(storage: Path) -> Iterator[Callable[..., LogService]]:
    services: list[LogService] = []

    def make(**limits: Any) -> LogService:
        values = {"retry_s_min": 0.001, "retry_s_max": 0.01, **limits}
        vfs = values.pop("vfs", None)
        services.append(LogService(storage, "test", SimulatedClock(), limits=ServiceLimits(**values), vfs=vfs))
        return services[-1]

    yield make
    for service in services:
        service.close()


def test_what_is_written_can_be_read_after_a_flush(start: Any, storage: Path, make_line: Any) -> None:
    service = start()
    lines = [make_line(n, host="h", pid=1, attempt=2, error_stack="s", metadata='{"a":1}') for n in range(5000)]
    assert service.write(lines) == 5000
    assert service.flush()
    assert LogReader(storage).sql("TRUE") == lines
    stats = service.stats()
    assert (stats.accepted, stats.written, stats.queued, stats.queued_bytes, stats.dropped) == (5000, 5000, 0, 0, {})


def test_close_writes_what_is_queued_and_later_lines_are_dropped(start: Any, storage: Path, make_line: Any) -> None:
    service = start()
    service.write([make_line(n) for n in range(1000)])
    assert service.close()
    assert service.close()
    assert service.write([make_line()]) == 0
    assert service.stats().dropped == {"executor": 1}
    assert len(LogReader(storage).sql("TRUE")) == 1000
    assert service.flush(0.01)


@settings(max_examples=12)
@given(
    batches=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 1), st.booleans()), max_size=8),
    file_bytes_max=st.sampled_from([1, 100_000, 10**9]),
    batch_lines_max=st.sampled_from([1, 7, 1000]),
)
def test_below_capacity_every_line_is_stored_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    make_line: Any,
    batches: list[tuple[int, int, bool]],
    file_bytes_max: int,
    batch_lines_max: int,
) -> None:
    storage = tmp_path_factory.mktemp("storage")
    clock = SimulatedClock()
    limits = ServiceLimits(file_bytes_max=file_bytes_max, batch_lines_max=batch_lines_max)
    service = LogService(storage, "test", clock, limits=limits)
    sent: list[LogLine] = []
    for count, days, flush in batches:
        lines = [make_line(len(sent) + n) for n in range(count)]
        assert service.write(lines) == count
        sent += lines
        clock.advance(seconds=days * 86_400)
        if flush:
            assert service.flush()
    assert service.close()
    assert LogReader(storage).sql("TRUE") == sent


def test_many_threads_lose_nothing_below_capacity(start: Any, storage: Path, make_line: Any) -> None:
    service = start()

    def write(base: int) -> None:
        for n in range(200):
            service.write([make_line(base + n)])

    threads = [threading.Thread(target=write, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.flush()
    found = [line.timestamp for line in LogReader(storage).sql("TRUE")]
    assert found == sorted(1000 * k + n for k in range(8) for n in range(200))


def test_a_flood_is_bounded_counted_and_reported(start: Any, storage: Path, make_line: Any, faulty_disk: Any) -> None:
    service = start(queue_lines_max=1000, vfs=faulty_disk.name)
    faulty_disk.full = True  # nothing leaves the queue
    line = make_line(message="x" * 1000)
    service.write([line] * 1000)
    tracemalloc.start()
    accepted = sum(service.write([line] * 100) for _ in range(1000))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert accepted == 0
    assert peak_bytes < 1_000_000
    stats = service.stats()
    assert stats.queued == 900  # the rest is the reserve for warnings and worse
    assert stats.dropped == {"executor": 100_100}
    assert service.write([make_line(level="error", service="http")] * 200) == 100
    faulty_disk.full = False
    assert service.flush()
    assert service.close()
    lines = LogReader(storage).sql("TRUE")
    reports = [line for line in lines if line.event_type == "log_lines_dropped"]
    assert len(lines) == 1000 + len(reports)
    counts = [json.loads(report.metadata or "")["by_service"] for report in reports]
    assert sum(each.get("executor", 0) for each in counts) == 100_100
    assert sum(each.get("http", 0) for each in counts) == 100
    assert {report.service for report in reports} == {"logs"}


def test_the_queue_is_bounded_in_bytes_too(start: Any, make_line: Any, faulty_disk: Any) -> None:
    service = start(queue_bytes_max=1_000_000, vfs=faulty_disk.name)
    faulty_disk.full = True
    service.write([make_line(message="x" * 10_000) for _ in range(1000)])
    assert service.stats().queued_bytes <= 1_000_000
    assert service.stats().queued < 100


def test_a_full_disk_reaches_no_caller_and_loses_nothing_that_fits(
    start: Any, storage: Path, make_line: Any, faulty_disk: Any, wait_until: Any
) -> None:
    service = start(vfs=faulty_disk.name)
    service.write([make_line(0)])
    assert service.flush()
    faulty_disk.full = True
    assert service.write([make_line(n) for n in range(1, 100)]) == 99
    wait_until(lambda: service.stats().disk_errors > 2, what="attempts on a full disk")
    assert not service.flush(0.02)
    assert "FullError" in (service.stats().last_error or "")
    faulty_disk.full = False
    assert service.flush()
    assert service.stats().last_error is None
    assert [line.timestamp for line in LogReader(storage).sql("TRUE")] == list(range(100))


def test_a_removed_folder_is_made_again(start: Any, storage: Path, make_line: Any) -> None:
    service = start()
    service.write([make_line(0)])
    assert service.flush()
    shutil.rmtree(storage)
    assert service.write([make_line(1), make_line(2)]) == 2
    assert service.flush()
    assert [line.timestamp for line in LogReader(storage).sql("TRUE")] == [1, 2]
    assert service.stats().disk_errors == 1


def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path: Path, make_line: Any) -> None:
    blocker = tmp_path / "storage"
    blocker.write_text("a file where the folder should be")
    service = LogService(blocker, "test", limits=FAST)
    assert service.write([make_line(1)]) == 1
    assert not service.flush(0.02)
    assert service.stats().disk_errors > 0
    blocker.unlink()
    assert service.flush()
    assert len(LogReader(blocker).sql("TRUE")) == 1
    assert service.close()


def test_closing_on_a_full_disk_ends_and_counts_what_is_lost(start: Any, make_line: Any, faulty_disk: Any) -> None:
    service = start(vfs=faulty_disk.name)
    faulty_disk.full = True
    service.write([make_line(n) for n in range(10)])
    assert not service.close(timeout_s=10)
    assert service.stats().dropped == {"executor": 10}
    assert not service._thread.is_alive()


@pytest.mark.parametrize("junk", [None, 7, [None], ["text"], [{}], [object()]])
def test_junk_is_refused_without_an_error(start: Any, junk: Any) -> None:
    service = start()
    assert service.write(junk) == 0
    assert service.stats().refused == 1


def test_lines_with_impossible_values_cost_only_themselves(start: Any, storage: Path, make_line: Any) -> None:
    service = start()
    service.write([make_line(1), make_line(timestamp="late"), make_line(attempt=2**70), make_line(2)])
    assert service.flush()
    assert [line.timestamp for line in LogReader(storage).sql("TRUE")] == [1, 2]
    assert (service.stats().written, service.stats().refused) == (2, 2)


def test_a_clock_that_raises_stops_nothing_else(storage: Path, make_line: Any, wait_until: Any) -> None:
    class BrokenClock:
        broken = True

        def now_us(self) -> int:
            if self.broken:
                raise OSError("no time")
            return 0

    clock = BrokenClock()
    service = LogService(storage, "test", clock, limits=FAST)
    service.write([make_line(1)])
    wait_until(lambda: service.stats().disk_errors, what="the clock's error")
    clock.broken = False
    assert service.flush()
    assert service.close()
