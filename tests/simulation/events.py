"""The event service, simulated: it keeps the rules of the protocol (epochs, marks, dense sequences, duplicates, gaps) and fails.

What it holds is compared with what runs have committed: row for row, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.simulation.violations import require
from wonder_ray.errors import PayloadError, StaleEpochError
from wonder_ray.events.lines import check_batch
from wonder_ray.events.spans import Span, boundaries_of, insert, judge, mark_of, subtract
from wonder_ray.events.wire import Ack, EventBatch, OpenReply

if TYPE_CHECKING:
    from wonder_ray.events.wire import Outcome


class Held(msgspec.Struct):
    """What the service holds of one run."""

    fence: int = 0
    spans: list[Span] = []
    lines: dict[int, bytes] = {}
    sealed: int = 0
    """Up to here the rows lie in finished files, which no loss of the service's disk can touch."""


class SimulatedEvents:
    """The service; a caller schedules when its answers arrive."""

    def __init__(self) -> None:
        self.runs: dict[str, Held] = {}
        self.down_until_us = 0

    def is_up(self, now_us: int) -> bool:
        """Whether the service is there."""
        return now_us >= self.down_until_us

    def open(self, run_id: str, epoch: int) -> OpenReply:
        """Fence older senders off; what is held."""
        held = self.runs.setdefault(run_id, Held())
        if epoch < held.fence:
            raise StaleEpochError(f"{run_id}: epoch {epoch} was fenced off by {held.fence}")
        held.fence = epoch
        return OpenReply(mark_of(held.spans), held.sealed, 0, 0, boundaries_of(held.spans))

    def append(self, batch: EventBatch) -> Ack:
        """Keep a batch, durably; the acknowledgement."""
        held = self.runs[batch.run.workflow_run_id]
        if batch.epoch < held.fence:
            return self._ack(batch, held, "stale")
        try:
            incoming = check_batch(batch)
        except PayloadError as error:
            return self._ack(batch, held, "invalid", str(error))
        verdict = judge(held.spans, incoming)
        if verdict.outcome != "ok":
            return self._ack(batch, held, verdict.outcome, verdict.message)
        for sequence, line in enumerate(batch.lines.split(b"\n"), batch.first):
            known = held.lines.setdefault(sequence, line)
            require(known == line, "I11", f"event {sequence} was published twice, with different content")
        held.spans = insert(held.spans, subtract(verdict.missing, held.spans))
        return self._ack(batch, held, "ok")

    def _ack(self, batch: EventBatch, held: Held, outcome: Outcome, message: str = "") -> Ack:
        return Ack(batch.run.workflow_run_id, batch.stream, mark_of(held.spans), held.sealed, outcome, message)

    def seal(self) -> None:
        """Write everything into finished files."""
        for held in self.runs.values():
            held.sealed = mark_of(held.spans)

    def lose_disk(self) -> int:
        """What is not in finished files is gone; how many rows that were."""
        lost = 0
        for held in self.runs.values():
            gone = [sequence for sequence in held.lines if sequence > held.sealed]
            lost += len(gone)
            for sequence in gone:
                del held.lines[sequence]
            held.spans = subtract(held.spans, [Span(held.sealed + 1, 2**62, 0)])
        return lost
