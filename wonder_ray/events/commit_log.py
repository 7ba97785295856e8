"""The commit log of one event service: what it has acknowledged and not yet sealed, and what it knows of every run.

One SQLite file per instance of the service. Its owner writes to it; other instances on the same storage only fence runs in
it (`claiming.py`), and readers in any process read it while it is written. All SQL of `events/` is here and in `log_*.py`.

>>> with CommitLog.own(layout.log_path(1)) as log, log.transaction():  # doctest: +SKIP
...     log.append(batch, [Span(1, 1000, 1)])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec
import pyarrow as pa

from wonder_ray.events.lines import cut_lines
from wonder_ray.events.log_keeping import KeepingLog
from wonder_ray.events.spans import Span, boundaries_of, insert, mark_of, subtract
from wonder_ray.events.wire import OpenReply, RunInfo, Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wonder_ray.events.wire import EventBatch

PACK_BYTES_MIN: Final = 4096
"""Less is not worth the 70 microseconds that a compressor takes to start."""
_INFO_DECODER: Final = msgspec.json.Decoder(RunInfo)


class Fence(NamedTuple):
    """The newest sender of a run that this log knows of; `owned` if its batches are taken here."""

    epoch: int
    owned: bool


class StoredBatch(NamedTuple):
    """Rows `first` to `last` of a run, as they lie in the log."""

    run: RunInfo
    first: int
    last: int
    lines: bytes


class PlannedFile(NamedTuple):
    """A Parquet file whose content is fixed; `name` is `date=<day>/<file>`, `sha256` is known once it is written."""

    name: str
    rows: int
    sha256: str = ""
    size: int = 0


class Plan(NamedTuple):
    """The batches `first_batch` to `last_batch` of a stream, and the files that they become."""

    number: int
    stream: Stream
    first_batch: int
    last_batch: int
    files: list[PlannedFile]


class CommitLog(KeepingLog):
    """One open commit log. Not for several threads at once; every writing method belongs inside `transaction()`."""

    # ------------------------------------------------------------------------------------------- runs

    def fence(self, run_id: str) -> Fence | None:
        """The fence of a run, if it was ever opened here."""
        for epoch, owned in self._all("SELECT epoch, owned FROM fences WHERE run_id = ?", run_id):
            return Fence(epoch, bool(owned))
        return None

    def set_fence(self, run_id: str, epoch: int, *, owned: bool, claim: str = "") -> None:
        """Refuse senders of this run that are older than `epoch` from now on; `claim` marks a fence that is being set."""
        self._all(
            "INSERT INTO fences (run_id, epoch, owned, claim) VALUES (?1, ?2, ?3, ?4)"
            " ON CONFLICT (run_id) DO UPDATE SET epoch = ?2, owned = ?3, claim = ?4",
            run_id, epoch, int(owned), claim,
        )  # fmt: skip

    def finish_claim(self, run_id: str, claim: str) -> bool:
        """Own the run, unless somebody else has touched its fence since it was set with this claim."""
        self._all("UPDATE fences SET owned = 1 WHERE run_id = ? AND claim = ?", run_id, claim)
        return bool(self._db.changes() == 1)

    def spans(self, run_id: str, stream: Stream) -> list[Span]:
        """What is held of a stream of a run, here or sealed; ordered, merged."""
        sql = "SELECT first, last, epoch FROM spans WHERE run_id = ? AND stream = ? ORDER BY first"
        return [Span(*row) for row in self._all(sql, run_id, stream)]

    def add_spans(self, run_id: str, stream: Stream, pieces: Sequence[Span], held: list[Span] | None = None) -> list[Span]:
        """Note that these rows are held, and tell what is held then; `held` is what `spans` said, if the caller knows."""
        before = self.spans(run_id, stream) if held is None else held
        after = insert(before, subtract(pieces, before))
        for span in set(before) - set(after):
            self._all("DELETE FROM spans WHERE run_id = ? AND stream = ? AND first = ?", run_id, stream, span.first)
        for span in set(after) - set(before):
            self._all("INSERT INTO spans (run_id, stream, first, last, epoch) VALUES (?, ?, ?, ?, ?)", run_id, stream, *span)
        return after

    def marks(self, run_id: str) -> OpenReply:
        """The high-water marks of a run."""
        held = self.spans(run_id, "events")
        mark, trace_mark = mark_of(held), mark_of(self.spans(run_id, "trace"))
        return OpenReply(
            mark,
            self.sealed(run_id, "events", mark),
            trace_mark,
            self.sealed(run_id, "trace", trace_mark),
            boundaries_of(held),
        )

    def sealed(self, run_id: str, stream: Stream, mark: int) -> int:
        """Up to where a run's rows lie in finished files: before the first that still lies in a log, here or elsewhere."""
        firsts = [first for first in (self.first_unsealed(run_id, stream), self._first_elsewhere(run_id, stream)) if first]
        return min([mark, *(first - 1 for first in firsts)])

    def first_unsealed(self, run_id: str, stream: Stream) -> int | None:
        """The first row of a run that lies in this log, and in no finished file."""
        return cast("int | None", self._one("SELECT min(first) FROM batches WHERE run_id = ? AND stream = ?", run_id, stream))

    def _first_elsewhere(self, run_id: str, stream: Stream) -> int | None:
        sql = "SELECT min(first) FROM elsewhere WHERE run_id = ? AND stream = ?"
        return cast("int | None", self._one(sql, run_id, stream))

    def set_elsewhere(self, run_id: str, stream: Stream, log: str, first: int | None) -> None:
        """Note from where on rows of a run lie unsealed in another instance's log; None when all are sealed."""
        self._all("DELETE FROM elsewhere WHERE run_id = ? AND stream = ? AND log = ?", run_id, stream, log)
        if first is not None:
            self._all("INSERT INTO elsewhere (run_id, stream, log, first) VALUES (?, ?, ?, ?)", run_id, stream, log, first)

    def elsewhere(self) -> list[tuple[str, Stream, str]]:
        """`(run, stream, log)` of all rows that lie unsealed in other logs."""
        return list(self._all("SELECT run_id, stream, log FROM elsewhere"))

    def last_sequences(self, stream: Stream) -> dict[str, int]:
        """The last row that is held of each run."""
        return dict(self._all("SELECT run_id, max(last) FROM spans WHERE stream = ? GROUP BY run_id", stream))

    def last_of(self, run_ids: Sequence[str], stream: Stream) -> dict[str, int]:
        """The last row that is held of each of these runs; nothing of a run of which none is."""
        sql = (
            "SELECT j.value, max(s.last) FROM json_each(?) j JOIN spans s ON s.run_id = j.value AND s.stream = ? GROUP BY j.value"
        )
        return dict(self._all(sql, msgspec.json.encode(run_ids).decode(), stream))

    # ---------------------------------------------------------------------------------------- batches

    def append(self, batch: EventBatch, pieces: Sequence[Span], held: list[Span] | None = None) -> list[Span]:
        """Store these parts of a batch, none of which is held, and tell what is held then (see `add_spans`)."""
        info = msgspec.json.encode(batch.run)
        run_id = batch.run.workflow_run_id
        for first, last in _contiguous(pieces):
            lines = cut_lines(batch, first, last)
            self._all(
                "INSERT INTO batches (stream, run_id, epoch, first, last, size, info, lines) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                batch.stream, run_id, batch.epoch, first, last, len(lines), info, _pack(lines),
            )  # fmt: skip
        return self.add_spans(run_id, batch.stream, pieces, held)

    def unsealed(self) -> tuple[int, int, int]:
        """`(rows, bytes, last batch)` that lie in this log."""
        sql = "SELECT coalesce(sum(last - first + 1), 0), coalesce(sum(size), 0), coalesce(max(id), 0) FROM batches"
        return cast("tuple[int, int, int]", self._all(sql)[0])

    def batches(self, stream: Stream, first_batch: int, last_batch: int) -> list[StoredBatch]:
        """Stored batches by number, in the order of a file: by run, then by sequence."""
        sql = "SELECT info, first, last, size, lines FROM batches WHERE stream = ? AND id BETWEEN ? AND ? ORDER BY run_id, first"
        return [_stored(row) for row in self._all(sql, stream, first_batch, last_batch)]

    def batches_of_run(self, run_id: str, stream: Stream, after: int, last: int) -> list[StoredBatch]:
        """The stored batches of a run with a row of `after` + 1 to `last`."""
        sql = (
            "SELECT info, first, last, size, lines FROM batches WHERE run_id = ? AND stream = ? AND first <= ? AND last > ?"
            " ORDER BY first"
        )
        return [_stored(row) for row in self._all(sql, run_id, stream, last, after)]

    # ------------------------------------------------------------------------------------------ files

    def next_batches(self, stream: Stream, until: int, rows_max: int, bytes_max: int) -> tuple[int, int] | None:
        """The oldest batches up to `until` that one plan should hold, as `(first, last)`; None when there are none."""
        chosen: list[int] = []
        rows = size = 0
        sql = "SELECT id, last - first + 1, size FROM batches WHERE stream = ? AND id <= ? ORDER BY id"
        for number, more_rows, more_size in self._db.execute(sql, (stream, until)):
            rows, size = rows + more_rows, size + more_size
            if chosen and (rows > rows_max or size > bytes_max):
                break
            chosen.append(number)
        return (chosen[0], chosen[-1]) if chosen else None

    def add_plan(self, stream: Stream, batches: tuple[int, int], files: Iterable[tuple[str, int, list[str]]]) -> Plan:
        """Fix what becomes of these batches; `files` are `(day, rows, runs)`."""
        self._all("INSERT INTO plans (stream, first_batch, last_batch) VALUES (?, ?, ?)", stream, *batches)
        number = self._db.last_insert_rowid()
        name = f"{self._meta('prefix')}-{number:08d}.parquet"
        planned = []
        for day, rows, runs in files:
            planned.append(PlannedFile(f"date={day}/{name}", rows))
            self.add_file(stream, planned[-1], runs, plan=number)
        return Plan(number, stream, batches[0], batches[1], planned)

    def add_file(self, stream: Stream, file: PlannedFile, runs: Iterable[str], plan: int | None = None) -> None:
        """Note a file of the dataset and the runs in it; one without a plan is finished."""
        self._all(
            "INSERT OR IGNORE INTO files (stream, name, rows, plan, sha256, size) VALUES (?, ?, ?, ?, ?, ?)",
            stream, file.name, file.rows, plan, file.sha256, file.size,
        )  # fmt: skip
        for run_id in runs:
            self._all("INSERT OR IGNORE INTO file_runs (run_id, stream, name) VALUES (?, ?, ?)", run_id, stream, file.name)

    def open_plans(self) -> list[Plan]:
        """The plans that are not sealed yet: none, or what a crash has left."""
        plans = []
        for number, stream, first, last in self._all("SELECT plan, stream, first_batch, last_batch FROM plans ORDER BY plan"):
            files = [PlannedFile(*file) for file in self._all(_FILES_OF_PLAN, number)]
            plans.append(Plan(number, stream, first, last, files))
        return plans

    def seal(self, plan: Plan, files: Iterable[PlannedFile], now_us: int) -> None:
        """Note that the files of a plan are finished; its batches have done their duty."""
        for file in files:
            self._all(
                "UPDATE files SET plan = NULL, sha256 = ?, size = ?, sealed_us = ? WHERE stream = ? AND name = ?",
                file.sha256, file.size, now_us, plan.stream, file.name,
            )  # fmt: skip
        self._all("DELETE FROM batches WHERE stream = ? AND id BETWEEN ? AND ?", plan.stream, plan.first_batch, plan.last_batch)
        self._all("DELETE FROM plans WHERE plan = ?", plan.number)

    def file_names(self, stream: Stream) -> set[str]:
        """Every file that this log planned or sealed, or took over."""
        return {name for (name,) in self._all("SELECT name FROM files WHERE stream = ?", stream)}

    def files_of_run(self, run_id: str, stream: Stream) -> list[str]:
        """The finished files that hold rows of a run."""
        sql = (
            "SELECT r.name FROM file_runs r JOIN files f USING (stream, name)"
            " WHERE r.run_id = ? AND r.stream = ? AND f.plan IS NULL ORDER BY r.name"
        )
        return [name for (name,) in self._all(sql, run_id, stream)]

    def sealed_files(self, stream: Stream) -> list[PlannedFile]:
        """Every finished file with its rows, SHA-256 and size; those found on disk without a log have no SHA-256."""
        sql = "SELECT name, rows, sha256, size FROM files WHERE stream = ? AND plan IS NULL ORDER BY name"
        return [PlannedFile(*row) for row in self._all(sql, stream)]

    # --------------------------------------------------------------------------------------- adoption

    def adopt(self, other: CommitLog, own_name: str) -> None:
        """Take over all that a log knows whose rows are all sealed."""
        for run_id, epoch in other._all("SELECT run_id, epoch FROM fences"):
            fence = self.fence(run_id)
            if fence is None or fence.epoch < epoch:
                self.set_fence(run_id, epoch, owned=False)
        for run_id, stream, *span in other._all("SELECT run_id, stream, first, last, epoch FROM spans"):
            self.add_spans(run_id, stream, [Span(*span)])
        for stream, *file in other._all("SELECT stream, name, rows, sha256, size FROM files"):
            self.add_file(stream, PlannedFile(*file), [])
        for row in other._all("SELECT run_id, stream, name FROM file_runs"):
            self._all("INSERT OR IGNORE INTO file_runs (run_id, stream, name) VALUES (?, ?, ?)", *row)
        for run_id, stream, log, first in other._all("SELECT run_id, stream, log, first FROM elsewhere"):
            if log != own_name:
                self.set_elsewhere(run_id, stream, log, first)
        self._all("DELETE FROM elsewhere WHERE log = ?", other.path.name)
        self.adopt_deleted(other)


_FILES_OF_PLAN: Final = "SELECT name, rows, sha256, size FROM files WHERE plan = ? ORDER BY name"


def _pack(lines: bytes) -> bytes:
    """Lines as they are stored: zstd where that makes them smaller; what has its full size is plain."""
    packed = pa.compress(lines, "zstd", asbytes=True) if len(lines) >= PACK_BYTES_MIN else lines
    return packed if len(packed) < len(lines) else lines


def _stored(row: tuple[bytes, int, int, int, bytes]) -> StoredBatch:
    info, first, last, size, packed = row
    lines = packed if len(packed) == size else pa.decompress(packed, size, "zstd", asbytes=True)
    return StoredBatch(_INFO_DECODER.decode(info), first, last, lines)


def _contiguous(pieces: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """The pieces as ranges of rows, whatever their epochs."""
    open_range: tuple[int, int] | None = None
    for first, last, _ in pieces:
        if open_range and open_range[1] + 1 == first:
            open_range = (open_range[0], last)
        else:
            if open_range:
                yield open_range
            open_range = (first, last)
    if open_range:
        yield open_range
