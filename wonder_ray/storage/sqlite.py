"""A run's state in one SQLite file on a local disk.

The writer is one connection that holds the file alone (`locking_mode=EXCLUSIVE`, so that the index of the write-ahead log
lives in its memory), and commits with `synchronous=FULL`: what was committed survives power loss. A reader takes a snapshot
into memory and lets go of the file at once, so that it can neither damage the file nor keep a coordinator from it.

Do not open a run's file by other means (`open`, the stdlib's `sqlite3`) in the process of its writer: closing it there drops
the writer's locks, as POSIX locks do.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar

import apsw
import msgspec

from wonder_ray.errors import StorageError
from wonder_ray.storage import opening, rows, schema
from wonder_ray.storage.records import ContextDelta, StoredRun
from wonder_ray.storage.store import OUTBOX_LIMIT, Stream, check_dense, check_epoch_current, check_epoch_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from wonder_ray.state import Run
    from wonder_ray.storage.records import TurnRecord

T = TypeVar("T")
EPOCH_KEY: Final = "epoch"
OUTBOX_LINES: Final = 500
"""Events in one row of an outbox."""


class SqliteRunStore:
    """The store of one run in one file; makes the file when there is none. See `RunStore` for the rules.

    Args:
        path: The file, on a local disk. Its folder must exist.
        read_only: A snapshot of the run, for other processes while no coordinator is alive.
        vfs: The name of a registered SQLite VFS to go through, for fault injection.

    Raises:
        StorageError: The file is in use, damaged, no run's file, of a newer release, on a network filesystem, or (read
            only) not there.

    Example:
        >>> store = SqliteRunStore(layout.run_file(run_id))  # doctest: +SKIP
        >>> stored = store.load()  # doctest: +SKIP
        >>> store.take_epoch(store.epoch_max() + 1)  # doctest: +SKIP
    """

    def __init__(self, path: Path, *, read_only: bool = False, vfs: str | None = None) -> None:
        self.path: Final = path
        self.read_only: Final = read_only
        self._failure: str | None = None
        self._last = (0, 0)
        """Sequence numbers of the last event and the last trace event."""
        self._run_values: tuple[str | None, ...] | None = None
        """What `run_values` holds: written again only when it changes."""
        self._connection: apsw.Connection | None = (opening.open_snapshot if read_only else opening.open_writer)(path, vfs)
        self._epoch = self._read("open", self._read_marks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the run -------------------------------------------------------------------------------------------------

    def load(self) -> StoredRun | None:
        """The run as its last committed turn left it; None when no turn was committed yet."""
        return self._read("load", self._load)

    def commit(self, record: TurnRecord) -> None:
        """Store one turn in one transaction; durable when this returns. See `RunStore.commit`."""
        try:
            self._write("commit a turn", lambda connection: self._commit(connection, record))
        except (TypeError, ValueError, OverflowError) as error:
            msg = f"{self.path}: cannot commit a turn: {error}; a field holds what no JSON text or 64-bit column can"
            raise StorageError(msg) from error

    # --- the outbox ----------------------------------------------------------------------------------------------

    def outbox(self, stream: Stream, after: int = 0, limit: int = OUTBOX_LIMIT) -> list[tuple[int, int, bytes]]:
        """Up to `limit` stored (sequence number, epoch, line) with a sequence number above `after`, ascending."""
        return self._read("read the outbox", lambda connection: list(islice(_outbox(connection, stream, after), limit)))

    def forget(self, stream: Stream, up_to: int) -> None:
        """Drop the rows up to and with this sequence number, which are sealed in finished files."""

        def drop(connection: apsw.Connection) -> None:
            for last, first, epoch, lines in _chunks(connection, stream, up_to):
                if first <= up_to:
                    kept = lines.split(b"\n")[up_to + 1 - first :]
                    connection.execute(schema.ADD_OUTBOX[stream], rows.seal((last, up_to + 1, epoch, b"\n".join(kept))))
                break
            connection.execute(schema.FORGET_OUTBOX[stream], (up_to,))

        self._write("forget sealed rows", drop)

    # --- epochs and facts ----------------------------------------------------------------------------------------

    def epoch_max(self) -> int:
        """The highest epoch taken or committed under; 0 for a new file."""
        return self._epoch

    def take_epoch(self, epoch: int) -> None:
        """Record durably that a coordinator goes on under this epoch. See `RunStore.take_epoch`."""
        check_epoch_taken(epoch, self._epoch, str(self.path))
        self._write("take an epoch", lambda connection: connection.execute(schema.SET_META, rows.seal((EPOCH_KEY, epoch))))
        self._epoch = epoch

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        """Store facts beside the run in one transaction; each replaces its older value."""
        self._write("store facts", lambda connection: _set_meta(connection, values))

    def get_meta(self, key: str) -> bytes | None:
        """A fact stored beside the run, or None."""
        found = self._read("read a fact", lambda connection: _fetch(connection, schema.GET_META, "meta", key))
        return found[0][1] if found and key != EPOCH_KEY else None

    # --- upkeep --------------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Tidy up while the run is idle: move the log into the file, and cut the log to nothing."""
        if not self.read_only:
            self._call("checkpoint", lambda connection: connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE))

    def close(self) -> None:
        """Let go of the file, which then holds everything (its log is gone). Closing twice is fine."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._failure = self._failure or "it was closed"
            opening.close(connection, self.path)

    def durability(self) -> dict[str, Any]:
        """The SQLite settings in force, read back: what benchmarks and `doctor` show."""
        names = (*schema.SETTINGS, "page_size", "user_version")
        settings = self._call("read settings", lambda connection: {name: connection.pragma(name) for name in names})
        return {"sqlite": apsw.sqlite_lib_version(), **settings}

    # --- inside --------------------------------------------------------------------------------------------------

    def _call(self, what: str, action: Callable[[apsw.Connection], T]) -> T:
        """Do something with the connection. Whatever goes wrong ends the store: after a write memory is ahead of the file."""
        if self._connection is None:
            msg = f"cannot {what}: the store of {self.path} is no longer usable ({self._failure}); open the file anew"
            raise StorageError(msg)
        try:
            return action(self._connection)
        except BaseException as error:  # noqa: BLE001 - `_fail` raises it again
            self._fail(what, error)

    def _write(self, what: str, action: Callable[[apsw.Connection], object]) -> None:
        """One transaction."""
        if self.read_only:
            msg = f"cannot {what}: {self.path} was opened for reading"
            raise StorageError(msg)

        def transaction(connection: apsw.Connection) -> None:
            connection.execute(schema.BEGIN)
            action(connection)
            connection.execute("COMMIT")

        self._call(what, transaction)

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        """End the store. A failed sync is never tried again: the system may have dropped the data and report success."""
        self._failure = f"it failed to {what}: {error}"
        connection, self._connection = self._connection, None
        if connection is not None:
            opening.abandon(connection)
        if isinstance(error, apsw.Error):
            raise opening.explain(error, self.path, what) from error
        raise error

    def _read(self, what: str, action: Callable[[apsw.Connection], T]) -> T:
        """Read; a row that cannot be right means that the file is damaged."""
        try:
            return self._call(what, action)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise opening.damaged(self.path, what, error) from error

    def _read_marks(self, connection: apsw.Connection) -> int:
        run = _fetch(connection, rows.RUN.select(), "run")
        self._last = run[0][-2:] if run else (0, 0)
        # All facts, so that one whose key is damaged is noticed, and not taken for absent.
        facts = dict(_fetch(connection, schema.GET_ALL_META, "meta"))
        return int(facts.get(EPOCH_KEY, 0))

    def _load(self, connection: apsw.Connection) -> StoredRun | None:
        row = connection.execute(rows.RUN.select()).fetchone()
        if row is None:
            return None
        self._run_values = values = _fetch(connection, schema.GET_RUN_VALUES, "run_values")[0]
        decoded = {
            name: None if text is None else rows.RUN_VALUE_DECODERS[name](text)
            for name, text in zip(rows.RUN_VALUES, values, strict=True)
        }
        return StoredRun(
            run=rows.RUN.decode(row, **decoded),
            tokens=[rows.TOKENS.decode(row) for row in connection.execute(rows.TOKENS.select())],
            groups=[rows.GROUPS.decode(row) for row in connection.execute(rows.GROUPS.select())],
            fanouts=[rows.FANOUTS.decode(row) for row in connection.execute(rows.FANOUTS.select())],
            deltas=[ContextDelta(*row[1:]) for row in _fetch(connection, schema.GET_DELTAS, "context_log")],
            iterations=_fetch(connection, schema.GET_ITERATIONS, "iterations"),
            records=_fetch(connection, schema.GET_RECORDS, "records"),
            keys=dict(_fetch(connection, schema.GET_KEYS, "handled")),
            epoch_max=self._epoch,
            last_sequence=self._last[0],
            last_trace_sequence=self._last[1],
        )

    def _commit(self, connection: apsw.Connection, record: TurnRecord) -> None:
        check_epoch_current(record.epoch, self._epoch, str(self.path))
        last = (
            check_dense(record.events, self._last[0], "events", str(self.path)),
            check_dense(record.traces, self._last[1], "trace events", str(self.path)),
        )
        _set_meta(connection, record.meta)
        if record.epoch > self._epoch:
            connection.execute(schema.SET_META, rows.seal((EPOCH_KEY, record.epoch)))
        self._write_run(connection, record.run, last)
        _write_rows(connection, record)
        # Ahead of COMMIT is early enough: when that fails, this store is never used again.
        self._last, self._epoch = last, record.epoch

    def _write_run(self, connection: apsw.Connection, run: Run, last: tuple[int, int]) -> None:
        connection.execute(rows.PUT_RUN, rows.RUN.encode(run, 1, *last))
        values = tuple(rows.encode_json(getattr(run, name)) for name in rows.RUN_VALUES)
        if values != self._run_values:
            connection.execute(schema.PUT_RUN_VALUES, rows.seal(values))
            self._run_values = values


def _fetch(connection: apsw.Connection, sql: str, table: str, *bindings: rows.Value) -> list[Any]:
    """The rows of a query, each checked against the checksum that it ends in, and without it."""
    return list(rows.unseal_all(connection.execute(sql, bindings), table))


def _set_meta(connection: apsw.Connection, values: Mapping[str, bytes]) -> None:
    if EPOCH_KEY in values:
        msg = f"the fact {EPOCH_KEY!r} is kept by take_epoch"
        raise StorageError(msg)
    connection.executemany(schema.SET_META, map(rows.seal, values.items()))


def _write_rows(connection: apsw.Connection, record: TurnRecord) -> None:
    turn, epoch = record.run.turn, record.epoch
    # With one prepared statement per table.
    connection.executemany(rows.PUT_TOKEN, map(rows.TOKENS.encode, record.tokens))
    connection.executemany(rows.PUT_GROUP, map(rows.GROUPS.encode, record.groups))
    connection.executemany(rows.PUT_FANOUT, map(rows.FANOUTS.encode, record.fanouts))
    deltas = ((turn, delta.scope_id, delta.target, delta.op, delta.value) for delta in record.deltas)
    connection.executemany(schema.ADD_DELTA, map(rows.seal, deltas))
    connection.executemany(schema.PUT_ITERATION, map(rows.seal, record.iterations))
    for kind, record_id, value in record.records:
        if value is None:
            connection.execute(schema.DROP_RECORD, (kind, record_id))
        else:
            connection.execute(schema.PUT_RECORD, rows.seal((kind, record_id, value)))
    connection.executemany(schema.ADD_KEY, map(rows.seal, record.keys))
    for stream, lines in (("events", record.events), ("trace", record.traces)):
        chunks = (lines[start : start + OUTBOX_LINES] for start in range(0, len(lines), OUTBOX_LINES))
        connection.executemany(schema.ADD_OUTBOX[stream], (rows.seal(_chunk(chunk, epoch)) for chunk in chunks))


def _chunk(lines: Sequence[tuple[int, bytes]], epoch: int) -> tuple[int, int, int, bytes]:
    """One row of an outbox: some hundred events cost one insert."""
    return lines[-1][0], lines[0][0], epoch, b"\n".join(line for _, line in lines)


def _chunks(connection: apsw.Connection, stream: Stream, after: int) -> Iterator[tuple[Any, ...]]:
    return rows.unseal_all(connection.execute(schema.GET_OUTBOX[stream], (after,)), "an outbox")


def _outbox(connection: apsw.Connection, stream: Stream, after: int) -> Iterator[tuple[int, int, bytes]]:
    for last, first, epoch, lines in _chunks(connection, stream, after):
        found = zip(range(first, last + 1), lines.split(b"\n"), strict=True)
        yield from ((sequence, epoch, line) for sequence, line in found if sequence > after)
