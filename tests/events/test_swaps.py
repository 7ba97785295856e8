"""A crash between any two steps of a swap, and what readers of our own see at each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.events.crashes import CrashAt, CrashError
from tests.events.kept import KEEP, Past, clock_at, date, files, store, whole_table
from wonder_ray.errors import StorageError
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.maintenance import Maintenance
from wonder_ray.events.query import EventReader
from wonder_ray.events.service import EventService
from wonder_ray.events.survey import take_survey
from wonder_ray.events.swaps import SWAP_FAILPOINTS, Swap, begin, pending

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASTS = [Past(1, 0, 1, rows=6), Past(2, 0, 0, rows=6), Past(3, 1, 1, rows=3)]


def maintenance(storage: Path, failpoint: Callable[[str], None] = lambda _: None, day: float = 3) -> Maintenance:
    return Maintenance(storage, retention=KEEP, clock=clock_at(day), grace_s=0.0, failpoint=failpoint)


def check_readers(storage: Path) -> None:
    reader = EventReader(storage)
    for past in PASTS:
        assert [row.sequence_number for row in reader.read(past.run)] == list(range(1, past.length + 1))
        assert reader.last_sequence(past.run) == reader.sealed(past.run) == past.length
    assert reader.runs() == {past.run: past.length for past in PASTS}


def check_plain_reader(storage: Path, expected: pa.Table) -> None:
    """All rows, each once, or an error."""
    try:
        assert whole_table(storage).equals(expected)
    except (OSError, pa.ArrowInvalid) as error:
        assert "magic bytes" in str(error) or "No such file" in str(error)  # noqa: PT017 - either is fine


POINTS = [(name, nth) for name in SWAP_FAILPOINTS for nth in (1, 2) if (name, nth) != ("swap.waited", 2)]  # one wait for all


@pytest.mark.parametrize(("name", "nth"), POINTS)
def test_a_crash_anywhere_loses_and_doubles_nothing(storage: Path, name: str, nth: int) -> None:
    store(storage, PASTS, files_a_day=3)
    before = whole_table(storage)
    crash = CrashAt(name, nth)

    def fail(step: str) -> None:
        check_readers(storage)
        check_plain_reader(storage, before)
        crash(step)

    with pytest.raises(CrashError):
        maintenance(storage, fail).run(live=set())
    check_readers(storage)
    check_plain_reader(storage, before)
    with EventService(storage) as service:  # which learns the files that no log knows
        assert service.marks(PASTS[0].run).sealed == PASTS[0].length
    report = maintenance(storage).run(live=set())
    assert len(report.problems) == 1
    assert report.problems[0].startswith("nothing was removed, since the clock is not believed: no time was noted here before")
    assert files(storage) == {date(0): 1, date(1): 1}
    assert whole_table(storage).equals(before)
    check_readers(storage)
    assert list(EventLayout(storage).swap_dir.iterdir()) == []


def test_readers_of_our_own_see_every_row_at_every_step(storage: Path) -> None:
    store(storage, PASTS, files_a_day=3)
    steps: list[str] = []

    def look(step: str) -> None:
        steps.append(step)
        check_readers(storage)

    maintenance(storage, look).run(live=set())
    assert list(dict.fromkeys(steps)) == list(SWAP_FAILPOINTS)


def test_who_has_the_old_files_open_reads_them_to_the_end(storage: Path) -> None:
    store(storage, PASTS, files_a_day=3)
    opened = [pq.ParquetFile(path, pre_buffer=False) for path in sorted((storage / "events").rglob("*.parquet"))]
    maintenance(storage).run(live=set())
    assert files(storage) == {date(0): 1, date(1): 1}
    assert sum(file.read().num_rows for file in opened) == sum(past.length for past in PASTS)


def test_behind_every_old_name_is_a_barrier_of_its_size_until_readers_have_had_their_time(storage: Path) -> None:
    store(storage, PASTS, files_a_day=3)
    sizes = {path: path.stat().st_size for path in (storage / "events").rglob("*.parquet")}
    seen: list[Path] = []

    def look(step: str) -> None:
        if step == "swap.waited":
            for path in (storage / "events").rglob("*.parquet"):
                if path in sizes:
                    seen.append(path)
                    assert path.read_bytes() == bytes(sizes[path])
                    assert path.stat().st_blocks == 0
                    with pytest.raises(pa.ArrowInvalid, match="magic bytes"):
                        ds.dataset([str(path)]).to_table()

    maintenance(storage, look).run(live=set())
    assert set(seen) == set(sizes)


def test_a_live_service_goes_on_beside_a_swap(storage: Path) -> None:
    store(storage, PASTS, files_a_day=3)
    late = Past(9, 0, 0, rows=5)
    with EventService(storage) as service:
        taken: list[str] = []

        def send(step: str) -> None:
            if not taken:
                service.open(late.run, 1)
            if len(taken) < late.length:
                taken.append(step)
                service.submit([late.batch(len(taken), len(taken))])
                service.flush()

        maintenance(storage, send).run(live={late.run})
        assert len(taken) == late.length
        assert [row.sequence_number for row in EventReader(storage).read(late.run)] == [1, 2, 3, 4, 5]
        assert service.marks(late.run).sealed == late.length
    table = whole_table(storage)
    assert table.num_rows == sum(past.length for past in [*PASTS, late])
    again = maintenance(storage).run(live=set())
    assert [(change.date, change.files) for change in again.compacted] == [(date(0), 6)]
    assert whole_table(storage).equals(table)


def test_two_maintainers_do_not_meet(storage: Path) -> None:
    store(storage, PASTS)
    reports: list[bool] = []
    report = maintenance(storage, lambda _: reports.append(maintenance(storage).run(live=set()).busy)).run(live=set())
    assert not report.busy
    assert set(reports) == {True}


def test_all_logs_know_the_new_files(storage: Path) -> None:
    """Files of three instances, one of them dead and adopted in the middle."""
    services = [EventService(storage, instance=number) for number in (1, 2, 3)]
    for service, past in zip(services, PASTS, strict=True):
        for number in range(1, past.length + 1, 3):
            service.submit([past.batch(number, number + 2)])
            service.flush()
    services[2].close()
    before = whole_table(storage)
    report = maintenance(storage).run(live=set())
    assert len(report.compacted) == 2
    layout = EventLayout(storage)
    for path in layout.logs():
        with CommitLog.own(path) if path.name == "3.sqlite" else CommitLog(path, "read") as log:
            assert all((layout.dataset("events") / name).is_file() for name in log.file_names("events"))
    for service in services[:2]:
        service.close()
    check_readers(storage)
    assert whole_table(storage).equals(before)


def test_a_damaged_journal_is_said_and_nothing_is_guessed(storage: Path) -> None:
    store(storage, PASTS)
    layout = EventLayout(storage)
    begin(layout, Swap("00ff", "events", [], []))
    assert [swap.id for swap in pending(layout)] == ["00ff"]
    (layout.swap_dir / "00ff.json").write_text("{")
    with pytest.raises(StorageError, match="is damaged"):
        maintenance(storage).run(live=set())


REMOVAL_POINTS = [(name, nth) for name, nth in POINTS if not name.startswith("swap.moved")]


@pytest.mark.parametrize(("name", "nth"), REMOVAL_POINTS)
def test_a_crash_while_days_are_removed_leaves_no_half_day(storage: Path, name: str, nth: int) -> None:
    old, young = [Past(1, 0, 0, rows=6), Past(2, 1, 1, rows=6)], Past(3, 95, 95, rows=2)
    store(storage, [*old, young], files_a_day=3)
    crash = CrashAt(name, nth)

    def rows_by_day() -> dict[str, int]:
        table = whole_table(storage)
        return {str(day["values"]): day["counts"].as_py() for day in pc.value_counts(table["date"].cast(pa.string()))}

    def fail(step: str) -> None:
        try:
            assert rows_by_day().items() <= {date(0): 6, date(1): 6, date(95): 2}.items()
        except (OSError, pa.ArrowInvalid) as error:
            assert "magic bytes" in str(error) or "No such file" in str(error)  # noqa: PT017 - either is fine
        crash(step)

    with pytest.raises(CrashError):
        maintenance(storage, fail, day=100).run(live=set(), trust_clock=True, compaction=False)
    report = maintenance(storage, day=100).run(live=set(), trust_clock=True, compaction=False)
    assert report.problems == []
    assert rows_by_day() == {date(95): 2}
    assert set(files(storage)) == {date(95)}
    for past in old:
        assert EventReader(storage).read(past.run) == []
    assert {each.run_id for each in take_survey(EventLayout(storage)).deleted} == {past.run for past in old}
