"""Compaction and retention beside pyarrow, pandas, polars and DuckDB: no read is ever wrong."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.events.kept import KEEP, Past, clock_at, date, store
from tests.events.plain_readers import LIBRARIES, wrong_days
from wonder_ray.clock_guard import consult
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.maintenance import Maintenance
from wonder_ray.events.parquet_writer import sync_and_hash, write_parquet
from wonder_ray.events.survey import take_survey
from wonder_ray.events.swaps import NewFile, Swap, begin, carry_out, folder_of

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from wonder_ray.events.survey import Day

TOP: Final = Path(__file__).parents[2]
YOUNG: Final = range(180, 183)
"""Days that are compacted, and scattered again, for ever."""
ROWS: Final = 60
PARTS: Final = 6


class Beside:
    """Readers in their processes, and a maintenance that never rests."""

    def __init__(self, tmp_path: Path, storage: Path, *, old: int, grace_s: float) -> None:
        self.storage = storage
        self.grace_s = grace_s
        self.old = old
        self.clock = clock_at(190.5)  # one old day goes with each day that the clock goes on: day 100 first
        self._stop = tmp_path / "stop"
        self._expected = tmp_path / "expected.json"
        pasts = [Past(day, day, day, rows=ROWS) for day in (*range(100, 100 + old), *YOUNG)]
        store(storage, pasts, files_a_day=PARTS)
        consult(storage, self.clock.now_us(), trust=True)
        days = {
            date(past.first): {"rows": [[past.run, n] for n in range(1, ROWS + 1)], "always": past.first in YOUNG}
            for past in pasts
        }
        self._expected.write_text(json.dumps(days))
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        env = {**os.environ, "PYTHONPATH": str(TOP), "RUST_BACKTRACE": "0"}
        for library in LIBRARIES:
            command = [sys.executable, "-m", "tests.events.plain_readers", library, str(self.storage / "events")]
            with Path(f"{self._stop}.{library}.stderr").open("w") as errors:
                self._processes[library] = subprocess.Popen(
                    [*command, str(self._expected), str(self._stop)],
                    cwd=TOP,
                    env=env,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()

    def maintain(self) -> tuple[int, int]:
        """One round: an old day goes, the young ones are compacted, and scattered again; how many days each."""
        self.clock.advance(seconds=86_400)
        live = {Past(day, day, day).run for day in YOUNG}  # else they go too, some day
        made = Maintenance(self.storage, retention=KEEP, clock=self.clock, grace_s=self.grace_s)
        report = made.run(live=live)
        assert report.problems == []
        layout = EventLayout(self.storage)
        swaps = [scatter(layout, day) for day in take_survey(layout).days("events") if len(day.files) < PARTS]
        for swap in swaps:
            begin(layout, swap)
        carry_out(layout, swaps, grace_s=self.grace_s)
        return len(report.removed), len(report.compacted)

    def right_reads(self) -> list[int]:
        """Of each reader so far."""
        paths = [Path(f"{self._stop}.{library}") for library in LIBRARIES]
        return [path.stat().st_size if path.exists() else 0 for path in paths]

    def calm(self, wait_until: WaitUntil, reads: int) -> None:
        """Let every reader read in peace for a while."""
        enough = [count + reads for count in self.right_reads()]

        def all_have_read() -> bool:
            for library, process in self._processes.items():
                assert process.poll() is None, Path(f"{self._stop}.{library}.stderr").read_text()[-4000:]
            return all(a >= b for a, b in zip(self.right_reads(), enough, strict=True))

        wait_until(all_have_read, 300, what="readers in peace")

    def stop(self) -> dict[str, Any]:
        self._stop.touch()
        return {library: json.loads(process.communicate(timeout=60)[0]) for library, process in self._processes.items()}


def scatter(layout: EventLayout, day: Day) -> Swap:
    """The opposite of compaction, by the same means."""
    swap = Swap(secrets.token_hex(8), day.stream, [file.name for file in day.files], [])
    folder_of(layout, swap.id).mkdir(parents=True)
    table = pa.concat_tables(pq.read_table(layout.dataset(day.stream) / name, partitioning=None) for name in swap.old).sort_by(
        [("workflow_run_id", "ascending"), ("sequence_number", "ascending")]
    )
    step = -(-table.num_rows // PARTS)
    for number in range(PARTS):
        part = table.slice(number * step, step)
        name = f"date={day.date}/scattered-{swap.id}-{number}.parquet"
        path = str(folder_of(layout, swap.id) / Path(name).name)
        write_parquet(part, path)
        sha256, size = sync_and_hash(path)
        runs = part["workflow_run_id"].to_pylist()
        swap.new.append(NewFile(name, part.num_rows, sha256, size, runs[0], runs[-1]))
    return swap


def test_a_day_that_lacks_a_row_has_one_twice_or_is_gone_is_noticed() -> None:
    """The oracle itself."""
    expected = {"d": {"rows": [["r", 1], ["r", 2]], "always": True}, "e": {"rows": [["r", 3]], "always": False}}
    day: list[tuple[str, str, int]] = [("d", "r", 2), ("d", "r", 1)]
    assert wrong_days(day, expected) == []
    assert wrong_days([*day, ("e", "r", 3)], expected) == []
    for rows in ([], day[:1], [*day, day[0]], [*day, ("e", "r", 4)], [*day, ("f", "r", 1)], [("d", "r", 1), ("d", "r", 1)]):
        assert wrong_days(rows, expected) != []


def check(told: dict[str, Any], reads_min: int) -> None:
    for library, found in told.items():
        assert (found["wrongs"], found["wrong"], found["unclear"]) == (0, [], []), library
        assert found["right"] >= reads_min, library
        assert sum(found["errors"].values()) > 0, f"{library} never met a swap"


def run_beside(beside: Beside, wait_until: WaitUntil, *, rounds: int, reads: int) -> dict[str, Any]:
    """Rounds of maintenance, with `reads` right ones of each reader around each; what the readers tell."""
    removed = compacted = 0
    with beside:
        for _ in range(rounds):
            beside.calm(wait_until, reads)
            gone, fewer = beside.maintain()
            removed, compacted = removed + gone, compacted + fewer
        beside.calm(wait_until, reads)
        told = beside.stop()
    check(told, reads_min=(rounds + 1) * reads)
    assert removed == min(rounds, beside.old)
    assert compacted >= rounds * len(YOUNG)
    return told


def test_no_read_is_wrong_while_days_are_replaced_and_removed(tmp_path: Path, storage: Path, wait_until: WaitUntil) -> None:
    run_beside(Beside(tmp_path, storage, old=2, grace_s=0.3), wait_until, rounds=3, reads=3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_reads(tmp_path: Path, storage: Path, wait_until: WaitUntil) -> None:
    told = run_beside(Beside(tmp_path, storage, old=30, grace_s=0.5), wait_until, rounds=80, reads=31)
    assert sum(found["right"] for found in told.values()) >= 10_000
