"""Reading events straight from the storage: no Ray, no running service.

A reader sees every acknowledged event once: it looks into the commit logs first, then into the files, since rows move only
from there to here.

>>> reader = EventReader("storage")
>>> [row.event_type for row in reader.read("run_0192f0c1a2b3_0123456789abcdef", limit=3)]  # doctest: +SKIP
['workflow.started', 'token.created', 'token.dispatched']
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from wonder_ray.errors import StorageError
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.lines import decode_lines
from wonder_ray.events.schema import RUN_COLUMNS, schema_of
from wonder_ray.events.swaps import paths_of_new, pending
from wonder_ray.ids import check_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from wonder_ray.events.commit_log import StoredBatch
    from wonder_ray.events.lines import EventLine, TraceLine
    from wonder_ray.events.swaps import Swap
    from wonder_ray.events.wire import Stream

T = TypeVar("T")
ATTEMPTS_MAX: Final = 4
_INT64_MAX: Final = 2**63 - 1


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """One workflow event: the columns of the event dataset. Times are integer microseconds, UTC."""

    workflow_run_id: str
    sequence_number: int
    turn: int
    turn_now: int
    epoch: int
    timestamp: int
    event_type: str
    workspace_id: str
    project_id: str
    root_run_id: str
    parent_run_id: str | None
    workflow_name: str
    workflow_version: str
    node_id: str | None = None
    token_id: str | None = None
    path_id: str | None = None
    attempt: int | None = None
    duration_ms: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    message: str | None = None
    metadata: str | None = None
    """All other fields of the event, JSON as text; `details` is what it says."""

    @property
    def details(self) -> dict[str, Any]:
        """The decoded metadata; decoded at each call."""
        return cast("dict[str, Any]", msgspec.json.decode(self.metadata)) if self.metadata else {}

    def as_dict(self) -> dict[str, Any]:
        """Column name to value, as `workflow_events.decode_event` takes it."""
        return msgspec.structs.asdict(self)


class TraceRow(msgspec.Struct, frozen=True, gc=False):
    """One trace event: the columns of the trace dataset. Times are integer microseconds, UTC."""

    workflow_run_id: str
    sequence_number: int
    turn: int
    epoch: int
    timestamp: int
    event_type: str
    category: str
    workspace_id: str
    project_id: str
    root_run_id: str
    parent_run_id: str | None
    workflow_name: str
    workflow_version: str
    node_id: str | None = None
    token_id: str | None = None
    duration_ms: float | None = None
    payload: str | None = None
    """The details, JSON as text; `details` is what it says."""

    @property
    def details(self) -> dict[str, Any]:
        """The decoded payload; decoded at each call."""
        return cast("dict[str, Any]", msgspec.json.decode(self.payload)) if self.payload else {}

    def as_dict(self) -> dict[str, Any]:
        """Column name to value."""
        return msgspec.structs.asdict(self)


Row: TypeAlias = EventRow | TraceRow


class EventReader:
    """Reads one storage folder; keeps nothing open, so any thread may use it.

    Args:
        storage: The storage folder; it may not exist yet.
    """

    def __init__(self, storage: Path | str) -> None:
        self._layout = EventLayout(Path(storage))

    def read(self, run_id: str, after: int = 0, limit: int | None = None) -> list[EventRow]:
        """The events of a run after a sequence number, in order, each once; all of them, or the first `limit`.

        The result has no hole, unless retention has removed days of the run.
        """
        return cast("list[EventRow]", self._read("events", run_id, after, limit))

    def read_trace(self, run_id: str, after: int = 0, limit: int | None = None) -> list[TraceRow]:
        """As `read`, of the run's trace events, which have a sequence of their own."""
        return cast("list[TraceRow]", self._read("trace", run_id, after, limit))

    def last_sequence(self, run_id: str, stream: Stream = "events") -> int:
        """The last row of a run that is durable; 0 when there is none."""
        check_run_id(run_id)
        mine = pc.field("workflow_run_id") == run_id

        def once(swaps: list[Swap]) -> int:
            found, known = {0}, set[str]()

            def look(log: CommitLog) -> None:
                known.update(log.file_names(stream))
                found.update(span.last for span in log.spans(run_id, stream))

            self._visit_logs(look)
            for batch in self._scan(stream, self._unknown(stream, known, swaps), mine, ["sequence_number"]):
                found.update(batch.column(0).to_pylist())
            return max(found)

        return self._steadily(once)

    def runs(self, stream: Stream = "events") -> dict[str, int]:
        """Every run with a row, and its last sequence number; oldest run first."""

        def once(swaps: list[Swap]) -> dict[str, int]:
            found, known = dict[str, int](), set[str]()

            def look(log: CommitLog) -> None:
                known.update(log.file_names(stream))
                for run_id, last in log.last_sequences(stream).items():
                    found[run_id] = max(last, found.get(run_id, 0))

            self._visit_logs(look)
            unknown = self._unknown(stream, known, swaps)
            for batch in self._scan(stream, unknown, None, ["workflow_run_id", "sequence_number"]):
                for run_id, last in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    found[run_id] = max(last, found.get(run_id, 0))
            return dict(sorted(found.items()))

        return self._steadily(once)

    def sealed(self, run_id: str) -> int:
        """Up to which workflow event of a run all lie in finished files (or retention has removed those)."""
        last = self.last_sequence(run_id)
        firsts: list[int] = []

        def look(log: CommitLog) -> None:
            if (first := log.first_unsealed(run_id, "events")) is not None:
                firsts.append(first)

        self._visit_logs(look)
        return min([last, *(first - 1 for first in firsts)])

    def unsealed(self) -> int:
        """How many rows, of both streams, are acknowledged and in no finished file: only a moment's, while a service lives."""
        rows: dict[Path, int] = {}

        def look(log: CommitLog) -> None:
            rows[log.path] = log.unsealed()[0]

        self._visit_logs(look)
        return sum(rows.values())

    def _read(self, stream: Stream, run_id: str, after: int, limit: int | None) -> list[Row]:
        check_run_id(run_id)
        if limit is not None and limit <= 0:
            return []
        # Sequences are dense, so the first `limit` rows are known by number; only after retention are they other ones.
        rows = self._read_whole(stream, run_id, after, _INT64_MAX if limit is None else after + limit)
        if limit is not None and len(rows) < limit:
            rows = self._read_whole(stream, run_id, after, _INT64_MAX)
        return rows[:limit]

    def _read_whole(self, stream: Stream, run_id: str, after: int, last: int) -> list[Row]:
        """All rows in `(after, last]`; looked for again while they have a hole that another look changes."""
        seen: list[int] | None = None
        for _ in range(ATTEMPTS_MAX):
            rows = self._steadily(partial(self._read_once, stream, run_id, after, last))
            numbers = sorted(rows)
            if numbers == seen or numbers == list(range(after + 1, after + 1 + len(numbers))):
                break
            seen = numbers  # a log that came into being after we listed them, or retention: a second look tells
        return [rows[number] for number in numbers]

    def _steadily(self, look: Callable[[list[Swap]], T]) -> T:
        """What a look at the storage gives, given the days that are being replaced; again when one was replaced meanwhile."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            swaps = pending(self._layout)
            try:
                return look(swaps)
            except FileNotFoundError as error:  # replaced after its log was read; the log now names its successor
                if attempt == ATTEMPTS_MAX:
                    msg = f"{error.filename or error}: a file of finished events is missing; restore it, or see `wonder doctor`"
                    raise StorageError(msg) from error
            except (pa.ArrowInvalid, OSError):  # a barrier, most likely (or, the second time, a damaged file)
                if attempt > 1 and pending(self._layout) == swaps:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _read_once(self, stream: Stream, run_id: str, after: int, last: int, swaps: list[Swap]) -> dict[int, Row]:
        rows, names, known = dict[int, Row](), set[str](), set[str]()

        def look(log: CommitLog) -> None:
            for stored in log.batches_of_run(run_id, stream, after, last):
                rows.update((row.sequence_number, row) for row in rows_of(stream, stored, after, last))
            names.update(log.files_of_run(run_id, stream))
            known.update(log.file_names(stream))

        self._visit_logs(look)
        key = pc.field("sequence_number")
        wanted = (pc.field("workflow_run_id") == run_id) & (key > after) & (key <= last)
        columns = _columns(stream)
        for batch in self._scan(stream, names | self._unknown(stream, known, swaps), wanted, columns, swaps):
            for row in _rows_from_arrow(stream, batch):
                rows.setdefault(row.sequence_number, row)
        return rows

    def _visit_logs(self, look: Callable[[CommitLog], None]) -> None:
        """Show every log to `look`; all again when one was adopted meanwhile, perhaps by one that had been looked at."""
        while not all(CommitLog.visit(path, look) for path in self._layout.logs()):
            pass

    def _unknown(self, stream: Stream, known: set[str], swaps: list[Swap]) -> set[str]:
        """The files that no log knows, and none that is being replaced (`_scan` cares for those).

        Listed after the logs were read: what has left them since is here.
        """
        touched = {name for swap in swaps for name in (*swap.old, *(new.name for new in swap.new))}
        return set(self._layout.files(stream)) - known - touched

    def _scan(
        self,
        stream: Stream,
        names: set[str],
        wanted: pc.Expression | None,
        columns: list[str],
        swaps: Sequence[Swap] = (),
    ) -> list[pa.RecordBatch]:
        paths = [self._layout.dataset(stream) / name for name in sorted(names)]
        for swap in swaps:
            if swap.stream == stream:
                replaced = {self._layout.dataset(stream) / name for name in swap.old}
                paths = [path for path in paths if path not in replaced] + paths_of_new(self._layout, swap)
        if not paths:
            return []
        dataset = ds.dataset([str(path) for path in dict.fromkeys(paths)], schema=schema_of(stream), format=_FORMAT)
        table = dataset.to_table(columns=columns, filter=wanted)
        return [batch for batch in table.to_batches() if batch.num_rows]


_FORMAT: Final = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


def _columns(stream: Stream) -> list[str]:
    return list((EventRow if stream == "events" else TraceRow).__struct_fields__)


def rows_of(stream: Stream, stored: StoredBatch, after: int, last: int) -> Iterator[Row]:
    """The rows of a stored batch in `(after, last]`."""
    lines: Sequence[EventLine | TraceLine] = decode_lines(stream, stored.lines)
    kind: type[Row] = EventRow if stream == "events" else TraceRow
    for line in lines[max(0, after + 1 - stored.first) : max(0, last + 1 - stored.first)]:
        yield kind(**msgspec.structs.asdict(stored.run), **msgspec.structs.asdict(line))


def _rows_from_arrow(stream: Stream, batch: pa.RecordBatch) -> Iterator[Row]:
    kind: type[Row] = EventRow if stream == "events" else TraceRow
    columns = [_values(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    for values in zip(*columns, strict=True):
        yield kind(*values)


def _values(name: str, column: pa.Array) -> Iterable[object]:
    """The Python values of a column; what is the same in every row is made once."""
    if column.null_count == len(column) or (name in RUN_COLUMNS and len(column.unique()) == 1):
        return [column[0].as_py()] * len(column)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count == 0 and pa.types.is_primitive(column.type):
        return cast("list[object]", column.to_numpy().tolist())
    return cast("list[object]", column.to_pylist())
