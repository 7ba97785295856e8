"""A run's store in memory, for tests and the simulator: the rules of the file, without the file.

>>> disk = MemoryDisk()
>>> store = MemoryRunStore(disk)
>>> store.take_epoch(1)
>>> store.crash()
>>> MemoryRunStore(disk).epoch_max()
1
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from wonder_ray.errors import StorageError, WonderError
from wonder_ray.state import Fanout, Group, Run, Token
from wonder_ray.storage.records import ContextDelta, StoredRun
from wonder_ray.storage.store import OUTBOX_LIMIT, Stream, check_dense, check_epoch_current, check_epoch_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wonder_ray.storage.records import TurnRecord

EPOCH_KEY: Final = "epoch"
_encode = msgspec.json.Encoder().encode


class MemoryDisk:
    """What outlives a `MemoryRunStore`: what is committed, as bytes, so that no struct is ever shared with a live run."""

    def __init__(self) -> None:
        self.run: bytes | None = None
        self.tokens: dict[int, bytes] = {}
        self.groups: dict[int, bytes] = {}
        self.fanouts: dict[int, bytes] = {}
        self.deltas: list[ContextDelta] = []
        self.iterations: dict[tuple[str, str], int] = {}
        self.records: dict[tuple[str, str], bytes] = {}
        self.keys: dict[str, bytes] = {}
        self.outboxes: dict[str, dict[int, tuple[int, bytes]]] = {"events": {}, "trace": {}}
        self.last: tuple[int, int] = (0, 0)
        self.epoch = 0
        self.meta: dict[str, bytes] = {}
        self.opened_by: MemoryRunStore | None = None


class MemoryRunStore:
    """The store of one run on a `MemoryDisk`. See `RunStore` for the rules.

    Args:
        disk: What was committed before; a new, empty one by default.
        fault: Called with `before commit` and `after commit` around every write; what it raises ends the store as an I/O
            error does. (After `after commit` the write is on the disk, though its caller was never told.)

    Raises:
        StorageError: Another store has the disk open.
    """

    def __init__(self, disk: MemoryDisk | None = None, *, fault: Callable[[str], None] | None = None) -> None:
        self.disk: Final = MemoryDisk() if disk is None else disk
        if self.disk.opened_by is not None:
            msg = "cannot open the memory store: it is in use by its coordinator; close that one, or let it crash"
            raise StorageError(msg)
        self.disk.opened_by = self
        self._fault = fault
        self._failure: str | None = None

    def load(self) -> StoredRun | None:
        """The run as its last committed turn left it; None when no turn was committed yet."""
        self._check_usable("load")
        disk = self.disk
        if disk.run is None:
            return None
        return StoredRun(
            run=msgspec.json.decode(disk.run, type=Run),
            tokens=[msgspec.json.decode(data, type=Token) for _, data in sorted(disk.tokens.items())],
            groups=[msgspec.json.decode(data, type=Group) for _, data in sorted(disk.groups.items())],
            fanouts=[msgspec.json.decode(data, type=Fanout) for _, data in sorted(disk.fanouts.items())],
            deltas=list(disk.deltas),
            iterations=sorted((*pair, count) for pair, count in disk.iterations.items()),
            records=sorted((*key, value) for key, value in disk.records.items()),
            keys=dict(disk.keys),
            epoch_max=disk.epoch,
            last_sequence=disk.last[0],
            last_trace_sequence=disk.last[1],
        )

    def commit(self, record: TurnRecord) -> None:
        """Store one turn, all of it or nothing. See `RunStore.commit`."""
        self._write("commit a turn", lambda: self._stage(record))

    def outbox(self, stream: Stream, after: int = 0, limit: int = OUTBOX_LIMIT) -> list[tuple[int, int, bytes]]:
        """Up to `limit` stored (sequence number, epoch, line) with a sequence number above `after`, ascending."""
        self._check_usable("read the outbox")
        found = sorted((sequence, *row) for sequence, row in self.disk.outboxes[stream].items() if sequence > after)
        return found[:limit]

    def forget(self, stream: Stream, up_to: int) -> None:
        """Drop the rows up to and with this sequence number, which are sealed in finished files."""
        rows = self.disk.outboxes[stream]
        kept = {sequence: row for sequence, row in rows.items() if sequence > up_to}
        self._write("forget sealed rows", lambda: functools.partial(self.disk.outboxes.__setitem__, stream, kept))

    def epoch_max(self) -> int:
        """The highest epoch taken or committed under; 0 for a new disk."""
        return self.disk.epoch

    def take_epoch(self, epoch: int) -> None:
        """Record that a coordinator goes on under this epoch. See `RunStore.take_epoch`."""
        check_epoch_taken(epoch, self.disk.epoch, "the memory store")
        self._write("take an epoch", lambda: functools.partial(setattr, self.disk, "epoch", epoch))

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        """Store facts beside the run; each replaces its older value."""
        self._write("store facts", lambda: functools.partial(self.disk.meta.update, _checked_meta(values)))

    def get_meta(self, key: str) -> bytes | None:
        """A fact stored beside the run, or None."""
        self._check_usable("read a fact")
        return self.disk.meta.get(key)

    def checkpoint(self) -> None:
        """Nothing to tidy up here."""
        self._check_usable("checkpoint")

    def close(self) -> None:
        """Let go of the disk. Closing twice is fine."""
        self._failure = self._failure or "it was closed"
        if self.disk.opened_by is self:
            self.disk.opened_by = None

    def crash(self) -> None:
        """Die as a killed process does: what is committed stays on the disk, this store is of no more use."""
        self._failure = "it crashed"
        self.close()

    # --- inside --------------------------------------------------------------------------------------------------

    def _check_usable(self, what: str) -> None:
        if self._failure is not None:
            msg = f"cannot {what}: the memory store is no longer usable ({self._failure}); open the disk anew"
            raise StorageError(msg)

    def _write(self, what: str, stage: Callable[[], Callable[[], None]]) -> None:
        """Prepare everything aside, then put it in place: the disk never shows a part of a turn."""
        self._check_usable(what)
        try:
            put_in_place = stage()
            if self._fault is not None:
                self._fault("before commit")
            put_in_place()
            if self._fault is not None:
                self._fault("after commit")
        except BaseException as error:  # noqa: BLE001 - whatever it was, the store has ended; `_fail` raises it again
            self._fail(what, error)

    def _stage(self, record: TurnRecord) -> Callable[[], None]:
        """Encode and check a turn; what is returned puts it in place and cannot fail."""
        disk = self.disk
        check_epoch_current(record.epoch, disk.epoch, "the memory store")
        last = (
            check_dense(record.events, disk.last[0], "events", "the memory store"),
            check_dense(record.traces, disk.last[1], "trace events", "the memory store"),
        )
        keys = dict(record.keys)
        if len(keys) < len(record.keys) or not disk.keys.keys().isdisjoint(keys):
            msg = "cannot commit a turn: a message key was stored twice, and nothing of this turn was stored"
            raise StorageError(msg)
        run = _encode(record.run)
        tokens = {token.ordinal: _encode(token) for token in record.tokens}
        groups = {group.ordinal: _encode(group) for group in record.groups}
        fanouts = {fanout.ordinal: _encode(fanout) for fanout in record.fanouts}
        meta = _checked_meta(record.meta)

        def put_in_place() -> None:
            disk.run, disk.last, disk.epoch = run, last, record.epoch
            disk.tokens.update(tokens)
            disk.groups.update(groups)
            disk.fanouts.update(fanouts)
            disk.deltas.extend(record.deltas)
            disk.iterations.update({(scope, transition): count for scope, transition, count in record.iterations})
            for kind, record_id, value in record.records:
                if value is None:
                    disk.records.pop((kind, record_id), None)
                else:
                    disk.records[kind, record_id] = value
            disk.keys.update(keys)
            disk.meta.update(meta)
            for stream, lines in (("events", record.events), ("trace", record.traces)):
                disk.outboxes[stream].update({sequence: (record.epoch, line) for sequence, line in lines})

        return put_in_place

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        self._failure = f"it failed to {what}: {error}"
        self.close()
        if isinstance(error, WonderError) or not isinstance(error, Exception):
            raise error
        msg = f"cannot {what}: {type(error).__name__}: {error}"
        raise StorageError(msg) from error


def _checked_meta(values: Mapping[str, bytes]) -> dict[str, bytes]:
    if EPOCH_KEY in values:
        msg = f"the fact {EPOCH_KEY!r} is kept by take_epoch"
        raise StorageError(msg)
    return dict(values)
