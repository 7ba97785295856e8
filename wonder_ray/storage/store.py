"""The interface of a run's storage, and the rules that every implementation keeps.

`MemoryRunStore` and `SqliteRunStore` pass one conformance suite. The rules:

- A turn is one transaction: after `commit` returns it is durable, and before that nothing of it can be seen.
- A commit that raises ends the store: the coordinator's memory is then ahead of the file, so that any later write would
  build on a turn that was never stored. Every further call raises `StorageError`; the way on is a new coordinator that
  loads the file.
- What is stored is a copy: changing a struct after `commit` changes nothing that is stored.
- Epochs only rise: a commit or `take_epoch` under an older one raises `StaleEpochError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from wonder_ray.errors import StaleEpochError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.storage.records import StoredRun, TurnRecord

Stream: TypeAlias = Literal["events", "trace"]
OUTBOX_LIMIT: Final = 1_000


class RunStore(Protocol):
    """The stored state of one run. One thread at a time may call it.

    Example:
        >>> def reopen(store: RunStore, epoch: int) -> StoredRun | None:
        ...     store.take_epoch(epoch)
        ...     return store.load()
    """

    def load(self) -> StoredRun | None:
        """The run as its last committed turn left it; None when no turn was committed yet."""
        ...

    def commit(self, record: TurnRecord) -> None:
        """Store one turn in one transaction; durable when this returns.

        Raises:
            StaleEpochError: A newer epoch was taken.
            StorageError: It could not be written, a key was stored before, or sequence numbers have a gap.
        """
        ...

    def outbox(self, stream: Stream, after: int = 0, limit: int = OUTBOX_LIMIT) -> list[tuple[int, int, bytes]]:
        """Up to `limit` stored (sequence number, epoch, line) with a sequence number above `after`, ascending."""
        ...

    def forget(self, stream: Stream, up_to: int) -> None:
        """Drop the rows up to and with this sequence number, which are sealed in finished files.

        Rows that are acknowledged but not sealed must stay: the event service may ask for them again.
        """
        ...

    def epoch_max(self) -> int:
        """The highest epoch taken or committed under; 0 for a new file."""
        ...

    def take_epoch(self, epoch: int) -> None:
        """Record durably that a coordinator goes on under this epoch.

        Raises:
            StaleEpochError: It is not above every epoch taken before.
        """
        ...

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        """Store facts beside the run (definition, bundle, run info) in one transaction; each replaces its older value."""
        ...

    def get_meta(self, key: str) -> bytes | None:
        """A fact stored beside the run, or None."""
        ...

    def checkpoint(self) -> None:
        """Tidy up while the run is idle: move the log into the file, and cut the log."""
        ...

    def close(self) -> None:
        """Let go of the file. Closing twice is fine."""
        ...


def check_epoch_taken(epoch: int, epoch_max: int, place: str) -> None:
    """Raise unless this epoch may be taken."""
    if epoch <= epoch_max:
        msg = f"epoch {epoch} of {place} cannot be taken: epoch {epoch_max} was taken before; a newer coordinator owns this run"
        raise StaleEpochError(msg)


def check_epoch_current(epoch: int, epoch_max: int, place: str) -> None:
    """Raise unless a turn of this epoch may be committed."""
    if epoch < epoch_max:
        msg = f"a turn of epoch {epoch} of {place} was refused: epoch {epoch_max} was taken since; this coordinator must stop"
        raise StaleEpochError(msg)


def check_dense(rows: Sequence[tuple[int, bytes]], last: int, what: str, place: str) -> int:
    """The last sequence number after these rows; raises unless they ascend without a gap from above `last`.

    The first may leap over numbers: a run rebuilt from its history goes on after the events that lie elsewhere.
    """
    if not rows:
        return last
    first = rows[0][0]
    if first <= last or (last and first != last + 1) or [row[0] for row in rows] != list(range(first, first + len(rows))):
        numbers = f"{first}..{rows[-1][0]} ({len(rows)} rows)"
        msg = f"{what} of {place} must have dense sequence numbers: after {last} came {numbers}; nothing was stored"
        raise StorageError(msg)
    return rows[-1][0]
