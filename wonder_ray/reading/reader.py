"""`Reader`: one storage folder, read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from wonder_ray.analytics.events import Events
from wonder_ray.errors import HistoryConflictError, StorageError, WonderError
from wonder_ray.reading.standing import child_json, narrowed, node_counts, progress_json, record_json, wait_json, waits_of
from wonder_ray.resources.records import DEFAULT_WORKSPACE
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.lock import read_holder
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.events.query import EventReader, EventRow, TraceRow
    from wonder_ray.fold import Folding
    from wonder_ray.logs.record import LogLine
    from wonder_ray.planning.queries import Waiting
    from wonder_ray.replay import Replay
    from wonder_ray.resources.reader import ResourcesReader
    from wonder_ray.resources.records import RunRecord
    from wonder_ray.storage.records import StoredRun
    from wonder_ray.storage.sqlite import SqliteRunStore
    from wonder_ray.storage.store import Stream

RowT = TypeVar("RowT", "EventRow", "TraceRow")
OUTBOX_ROWS: Final = 10_000
RUNS_MAX: Final = 1_000
WAITING_SHOWN: Final = 100
COORDINATOR_KEYS: Final = ("pid", "node", "epoch", "placement")
_RUN_FIELDS: Final = (
    "workspace_id",
    "project_id",
    "root_run_id",
    "parent_run_id",
    "workflow_name",
    "workflow_version",
)  # what every row of a run repeats


def open_storage(storage: str | Path | None = None) -> Reader:
    """Look at a storage folder, with or without a cluster: its runs, their events and logs, and all events in SQL.

    Args:
        storage: The folder; by default `$WONDER_STORAGE`, else `~/.wonder/storage`.

    Example:
        >>> storage = open_storage("data")  # doctest: +SKIP
        >>> storage.events.sql("SELECT node_id, count(*) AS n FROM attempts GROUP BY 1").rows  # doctest: +SKIP
        [('fetch', 12), ('report', 1)]
    """
    return Reader(storage)


class StoredEvents(Events):
    """The events of a storage folder: called with a run, that run's; `sql` and `report` look at those in files, of all runs.

    Example:
        >>> storage.events("latest")[-1].event_type  # doctest: +SKIP
        'workflow.completed'
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader.layout.root)
        self._reader = reader

    def __call__(self, ref: str, after: int = 0) -> list[EventRow]:
        """A run's events after a sequence number, in order, each once: also those that are in no file yet."""
        return self._reader.events_of(ref, after)


class Reader:
    """Reads one storage folder; between calls it keeps open nothing that is in it.

    A run is named by its id, a unique beginning of it, or `latest`; `RunNotFoundError` when that is no single run.

    Args:
        storage: The folder; by default `$WONDER_STORAGE`, else `~/.wonder/storage`.

    Attributes:
        layout: Its paths.
        events: The events: `events(run)` those of one run, `events.sql(...)` and `events.report(...)` over all runs.
        skipped: Path -> reason, for the files that the latest call could not read and did without.

    Example:
        >>> reader = Reader("storage")  # doctest: +SKIP
        >>> [row.event_type for row in reader.events("latest")][-1]  # doctest: +SKIP
        'workflow.completed'
    """

    def __init__(self, storage: str | Path | None = None) -> None:
        self.layout: Final = Layout(storage)
        self.skipped: dict[str, str] = {}
        self.events: Final = StoredEvents(self)

    # --- which runs there are ------------------------------------------------------------------------------------

    def runs(
        self,
        *,
        status: str | None = None,
        workflow: str | None = None,
        limit: int = 50,
        workspace_id: str = DEFAULT_WORKSPACE,
    ) -> list[RunRecord]:
        """Runs, newest first.

        Raises:
            StorageError: Nothing was ever started in this folder, or it cannot be read.
            WonderError: No run is ever in that status.
        """
        found: list[RunRecord] = []
        cursor: str | None = None
        with self._registry() as registry:
            while len(found) < limit:
                size = min(limit - len(found), RUNS_MAX)
                page = registry.list_runs(workspace_id=workspace_id, status=status, workflow=workflow, limit=size, cursor=cursor)
                found += page.runs
                cursor = page.cursor
                if cursor is None:
                    break
        return found

    def unfinished(self) -> list[RunRecord]:
        """Every run that no coordinator has reported as ended, oldest first."""
        with self._registry() as registry:
            return registry.unfinished()

    def record(self, ref: str) -> RunRecord:
        """What the registry knows of a run; from `status` on down it is what its coordinator last reported."""
        with self._registry() as registry:
            return registry.resolve_run(ref)

    def coordinated(
        self, *, status: str | None = None, workflow: str | None = None, limit: int = 50
    ) -> list[tuple[RunRecord, bool]]:
        """As `runs`, each with whether its coordinator lives."""
        found = self.runs(status=status, workflow=workflow, limit=limit)
        return [(record, not record.ended and self.coordinator(record.run_id) is not None) for record in found]

    def coordinator(self, run_id: str) -> dict[str, Any] | None:
        """The live coordinator of a run on this host: pid, node, epoch, placement; None when there is none."""
        holder = read_holder(self.layout.lock_file(run_id))
        if holder is None:
            return None
        return {key: holder.get(key) for key in COORDINATOR_KEYS}

    # --- one run -------------------------------------------------------------------------------------------------

    def show(self, ref: str) -> dict[str, Any]:
        """How a run stands, as JSON: the fields of its record, its `coordinator`, and more.

        That is `nodes` (node -> token status -> tokens), `waiting` (the first of what it waits for), `children` (its child runs),
        and where it has such: `pause_reason`, `ending` (how it will end) and `undos` (how much work can be taken back).
        Where the events tell more than what was last reported, they are believed.
        """
        record = self.record(ref)
        found = record_json(record) | {"coordinator": self.coordinator(record.run_id), "storage": str(self.layout.root)}
        found |= {"nodes": {}, "waiting": [], "children": [child_json(child) for child in self.children(record)]}
        rows = self._events(record)
        if rows and rows[0].sequence_number == 1:  # else retention has removed the beginning
            state = _fold(record.run_id, rows)
            found["nodes"] = node_counts(state)
            if state.run.sequence >= (record.events or 0):
                found |= progress_json(state)
                found["waiting"] = [wait_json(wait) for wait in waits_of(state, partial(self._graph, record), WAITING_SHOWN)]
        return found

    def children(self, record: RunRecord) -> list[RunRecord]:
        """The child runs of a run, newest first, at most 1000."""
        with self._registry() as registry:
            return registry.list_runs(workspace_id=record.workspace_id, parent_run_id=record.run_id, limit=RUNS_MAX).runs

    def waiting(self, ref: str, most: int | None = None) -> list[tuple[RunRecord, Waiting]]:
        """What a run and the runs below it wait for, as far as they have not ended: each wait with whose it is."""
        found: list[tuple[RunRecord, Waiting]] = []
        records = [self.record(ref)]
        while records and (most is None or len(found) < most):
            record = records.pop(0)
            if not record.ended:
                state = _fold(record.run_id, self._events(record))
                found += [(record, wait) for wait in waits_of(state, partial(self._graph, record), most)]
                records += self.children(record)
        return found[:most]

    def query(self, ref: str, expression: str) -> tuple[Any, int]:
        """The value of an expression over a run's `input`, `state`, `output` and `run`, and the event after which it is so.

        Raises:
            ExpressionError: It does not compile, or cannot be evaluated.
        """
        from wonder_ray.planning.queries import evaluate_query

        record = self.record(ref)
        state = _fold(record.run_id, self._events(record))
        return evaluate_query(state, expression), state.run.sequence

    def answered(self, record: RunRecord, key: str) -> dict[str, Any] | None:
        """What a run has answered to the command with this key; None where none was, or its file is not here, or is in use."""
        stored = self._stored(record.run_id)
        answer = None if isinstance(stored, str) or stored is None else dict(stored.keys).get(key)
        return None if answer is None else dict(decode(answer))

    def events_of(self, ref: str, after: int = 0) -> list[EventRow]:
        """What `events(ref, after)` gives."""
        return self._events(self.record(ref), after)

    def traces(self, ref: str, after: int = 0) -> list[TraceRow]:
        """A run's trace events, which have a sequence of their own; none unless it was started with tracing."""
        from wonder_ray.events.query import TraceRow

        record = self.record(ref)
        return self._with_outbox(record, "trace", self._event_reader().read_trace(record.run_id, after), after, TraceRow)

    def state(self, ref: str, at: int | None = None) -> dict[str, Any]:
        """A run's state now, or at the end of the turn that holds event `at`, as `fold.describe` gives it.

        Raises:
            WonderError: It has no event of that number.
            HistoryConflictError: Its history has a gap: retention has removed a part.
        """
        from wonder_ray.fold import describe

        record = self.record(ref)
        rows = self._events(record)
        last = rows[-1].sequence_number if rows else 0
        if record.ended and last < (record.events or 0):
            msg = f"run {record.run_id} had {record.events} events, of which {last} are left: retention has removed its history"
            raise HistoryConflictError(msg)
        if at is not None and not 1 <= at <= last:
            msg = f"run {record.run_id} has no event {at}: it has {last}; see `wonder events {record.run_id}`"
            raise WonderError(msg)
        return describe(_fold(record.run_id, rows, at))

    def replay(self, ref: str) -> Replay:
        """Tell today's planners the facts of a run's history, and see whether its events come out; compare its stored state, too.

        The state is compared where the run's file is here and no coordinator holds it.

        Raises:
            WonderError: It has no events yet.
            HistoryConflictError: Its history has a gap: retention has removed a part.
            DefinitionError: The version of its workflow is not known here.
        """
        record = self.record(ref)
        return self.replay_of(record, self._graph(record))

    def replay_of(self, record: RunRecord, graph: Graph) -> Replay:
        """The same for a run that is known, without the registry; `graph` is that of its definition."""
        from wonder_ray.replay import replay

        live = self.coordinator(record.run_id) is not None
        rows = [row.as_dict() for row in self._events(record)]
        if not rows:
            msg = f"run {record.run_id} has no events yet: there is nothing to replay"
            raise WonderError(msg)
        if rows[0]["sequence_number"] != 1:
            msg = f"run {record.run_id} has events from {rows[0]['sequence_number']} on: retention has removed its beginning"
            raise HistoryConflictError(msg)
        replayed = replay(graph, record.run_id, rows, open_end=live)
        return msgspec.structs.replace(replayed, state=None if live else self._state_differences(record.run_id, rows))

    def _state_differences(self, run_id: str, rows: list[dict[str, Any]]) -> tuple[str, ...] | None:
        """Where the state in the run's file differs from what its events fold to; None where the file is not here."""
        from wonder_ray.replay import stored_differences

        stored = self._stored(run_id)
        if isinstance(stored, str):
            return (stored,)
        return None if stored is None else stored_differences(stored, run_id, rows)

    def _stored(self, run_id: str) -> StoredRun | str | None:
        """What the run's file holds, or why it cannot be read; None where it is not here."""
        path = self.layout.run_file(run_id)
        if not path.exists():
            return None
        from wonder_ray.storage.sqlite import SqliteRunStore

        try:
            with SqliteRunStore(path, read_only=True) as store:
                return store.load()
        except StorageError as error:
            return str(error)

    def is_settled(self, record: RunRecord) -> bool:
        """Whether nothing is left to do for a run: it has ended, and all its events are with the event service."""
        return record.ended and self._event_reader().last_sequence(record.run_id) >= (record.events or 0)

    # --- the log -------------------------------------------------------------------------------------------------

    def logs(
        self,
        ref: str | None = None,
        *,
        where: str | None = None,
        limit: int | None = 1_000,
        archive: bool = False,
        **filters: Any,
    ) -> list[LogLine]:
        """The newest lines of the log that meet all filters, oldest first.

        Args:
            ref: Only lines of this run.
            where: An SQL condition; besides it only `ref`, `since_us` and `until_us` may be given.
            limit: At most this many.
            archive: Also the lines that have gone into the archive.
            **filters: As `LogReader.search` takes them.
        """
        from wonder_ray.logs.query import LogReader, Narrow

        reader = LogReader(self.layout.root)
        trace_id = None if ref is None else self.record(ref).run_id
        if where is None:
            found = reader.search(trace_id=trace_id, limit=limit, newest_first=True, archive=archive, **filters)
        else:
            condition, params = narrowed(where, trace_id, **filters)
            narrow = Narrow(**filters, equals={} if trace_id is None else {"trace_id": trace_id})
            found = reader.sql(condition, params, limit=limit, newest_first=True, archive=narrow if archive else None)
        self.skipped = dict(reader.skipped)
        return found[::-1]

    # --- inside --------------------------------------------------------------------------------------------------

    def _registry(self) -> ResourcesReader:
        from wonder_ray.resources.reader import ResourcesReader

        self.skipped = {}
        return ResourcesReader(self.layout.root)

    def _graph(self, record: RunRecord) -> Graph:
        from wonder_ray.definitions.graph import compile_graph
        from wonder_ray.definitions.models import WorkflowDefinition

        with self._registry() as registry:
            found = registry.get_definition(record.workflow_name, record.workflow_version, workspace_id=record.workspace_id)
        return compile_graph(WorkflowDefinition.model_validate(decode(found.definition)))

    def _event_reader(self) -> EventReader:
        from wonder_ray.events.query import EventReader

        return EventReader(self.layout.root)

    def _events(self, record: RunRecord, after: int = 0) -> list[EventRow]:
        from wonder_ray.events.query import EventRow

        return self._with_outbox(record, "events", self._event_reader().read(record.run_id, after), after, EventRow)

    def _with_outbox(
        self, record: RunRecord, stream: Stream, rows: list[RowT], after: int, kind: Callable[..., RowT]
    ) -> list[RowT]:
        """The rows, and those that only the run's own file has as yet."""
        last = rows[-1].sequence_number if rows else after
        if stream == "events" and record.ended and record.events is not None and last >= record.events:
            return rows
        more = self._outbox(record, stream, after)
        known = {row.sequence_number for row in rows}
        constant = {name: getattr(record, name) for name in _RUN_FIELDS} | {"workflow_run_id": record.run_id}
        rows = rows + [kind(**constant, **line) for line in more if line["sequence_number"] not in known]
        return sorted(rows, key=lambda row: row.sequence_number)

    def _outbox(self, record: RunRecord, stream: Stream, after: int) -> list[dict[str, Any]]:
        """The lines of a run's outbox; none while a coordinator holds the file."""
        path = self.layout.run_file(record.run_id)
        if not path.exists() or read_holder(self.layout.lock_file(record.run_id)) is not None:
            return []
        from wonder_ray.storage.sqlite import SqliteRunStore

        try:
            with SqliteRunStore(path, read_only=True) as store:
                return _lines(store, stream, after)
        except StorageError as error:  # taken this moment, or damaged: what was acknowledged lies elsewhere
            self.skipped[str(path)] = str(error)
            return []


def _lines(store: SqliteRunStore, stream: Stream, after: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while rows := store.outbox(stream, after, OUTBOX_ROWS):
        found += [decode(line) for _, _, line in rows]
        after = rows[-1][0]
    return found


def _fold(run_id: str, rows: list[EventRow], at: int | None = None) -> Folding:
    from wonder_ray.fold import fold

    return fold(run_id, (row.as_dict() for row in rows), at=at)
