from __future__ import annotations

import msgspec
import pytest

from tests.coordinator.fakes import INFO, NOTHING_HELD, RUN_ID, FakeSink
from wonder_ray.coordinator.shipper import BATCH_ROWS, RETRY_LAST_US, SHIP_EVERY_US, Shipped, Shipper
from wonder_ray.errors import HistoryConflictError, StaleEpochError
from wonder_ray.events.wire import OpenReply
from wonder_ray.state import Run
from wonder_ray.storage.memory import MemoryRunStore
from wonder_ray.storage.records import TurnRecord

NOW = 1_000_000_000


class Shipping:
    """A shipper with the outbox that it empties and the service that it sends to."""

    def __init__(self, opened: OpenReply = NOTHING_HELD) -> None:
        self.store = MemoryRunStore()
        self.sink = FakeSink()
        self.posted: list[Shipped] = []
        self.shipper = Shipper("events", INFO, 1, self.store, self.sink, self.posted.append, opened)
        self.now_us = NOW
        self.last = 0

    def commit(self, rows: int) -> None:
        first, self.last = self.last + 1, self.last + rows
        lines = [(i, msgspec.json.encode({"sequence_number": i})) for i in range(first, self.last + 1)]
        self.store.commit(TurnRecord(run=Run(run_id=RUN_ID, turn=1, sequence=self.last), epoch=1, events=lines))
        self.shipper.committed(self.last)

    def ship(self, after_us: int = SHIP_EVERY_US, *, urgent: bool = False) -> list[tuple[int, int]]:
        """Let time pass and ship; what is on its way."""
        self.now_us += after_us
        self.shipper.ship(self.now_us, urgent=urgent)
        return [(batch.first, batch.last) for batch, _, _ in self.sink.waiting]

    def answer(self) -> None:
        for message in self.posted:
            self.shipper.answered(message, self.now_us)
        self.posted.clear()

    def rows(self) -> list[int]:
        return [sequence for sequence, _, _ in self.store.outbox("events")]


def test_committed_rows_are_sent_once_and_in_order() -> None:
    shipping = Shipping()
    shipping.commit(3)
    assert shipping.ship() == [(1, 3)]
    (batch, _, _) = shipping.sink.waiting[0]
    assert [msgspec.json.decode(line)["sequence_number"] for line in batch.lines.split(b"\n")] == [1, 2, 3]
    assert (batch.run, batch.epoch) == (INFO, 1)
    shipping.commit(2)
    assert shipping.ship() == [(1, 3)], "one batch is under way at a time"
    assert shipping.shipper.due_us is None
    shipping.sink.acknowledge()
    shipping.answer()
    assert shipping.ship() == [(4, 5)]
    shipping.sink.acknowledge()
    shipping.answer()
    assert shipping.shipper.backlog == 0
    assert shipping.ship() == []


def test_small_batches_wait_for_company_unless_it_is_urgent() -> None:
    shipping = Shipping()
    shipping.commit(1)
    shipping.ship()
    shipping.sink.acknowledge()
    shipping.answer()
    shipping.commit(1)
    assert shipping.ship(1) == []
    assert shipping.shipper.due_us is not None
    assert shipping.ship(1, urgent=True) == [(2, 2)]


def test_a_whole_batch_does_not_wait() -> None:
    shipping = Shipping()
    shipping.commit(1)
    shipping.ship()
    shipping.sink.acknowledge()
    shipping.answer()
    shipping.commit(BATCH_ROWS + 5)
    assert shipping.ship(1) == [(2, BATCH_ROWS + 1)]


def test_acknowledged_rows_are_kept_until_they_are_sealed() -> None:
    shipping = Shipping()
    shipping.commit(4)
    shipping.ship()
    shipping.sink.acknowledge(sealed=0)
    shipping.answer()
    assert shipping.rows() == [1, 2, 3, 4]
    shipping.commit(1)
    shipping.ship()
    shipping.sink.acknowledge(sealed=3)
    shipping.answer()
    assert 3 not in shipping.rows()
    assert {4, 5} <= set(shipping.rows())


def test_a_gap_is_filled_from_the_mark_that_the_service_names() -> None:
    shipping = Shipping()
    shipping.commit(4)
    shipping.ship()
    shipping.sink.acknowledge()
    shipping.answer()
    shipping.commit(2)
    assert shipping.ship() == [(5, 6)]
    shipping.sink.acknowledge(mark=2, outcome="gap")  # it lost its disk, and rebuilt its mark from files
    shipping.answer()
    assert shipping.shipper.backlog == 4
    assert shipping.ship() == [(3, 6)]


def test_a_service_that_lost_what_it_acknowledged_is_refilled_at_opening() -> None:
    shipping = Shipping(OpenReply(1, 1, 0, 0, [(1, 1)]))
    shipping.commit(5)
    assert shipping.ship() == [(2, 5)]


def test_errors_are_tried_again_with_growing_pauses() -> None:
    shipping = Shipping()
    shipping.commit(1)
    pauses = []
    for _ in range(8):
        assert shipping.ship(RETRY_LAST_US) == [(1, 1)]
        shipping.sink.fail()
        shipping.answer()
        due_us = shipping.shipper.due_us
        assert due_us is not None
        pauses.append(due_us - shipping.now_us)
        assert shipping.ship(0, urgent=True) == [], "not even an urgent batch storms a service that is away"
    assert pauses == sorted(pauses)
    assert pauses[-1] == RETRY_LAST_US
    shipping.ship(RETRY_LAST_US)
    shipping.sink.acknowledge()
    shipping.answer()
    assert shipping.shipper.backlog == 0


def test_a_fenced_coordinator_stops() -> None:
    shipping = Shipping()
    shipping.commit(1)
    shipping.ship()
    shipping.sink.acknowledge(mark=0, outcome="stale")
    with pytest.raises(StaleEpochError, match="epoch 1"):
        shipping.answer()


@pytest.mark.parametrize("outcome", ["conflict", "invalid"])
def test_a_conflict_is_loud(outcome: str) -> None:
    shipping = Shipping()
    shipping.commit(1)
    shipping.ship()
    shipping.sink.acknowledge(mark=0, outcome=outcome)
    with pytest.raises(HistoryConflictError, match=RUN_ID):
        shipping.answer()


def test_an_answer_that_comes_twice_does_not_hide_what_the_service_has_lost_since() -> None:
    shipping = Shipping()
    shipping.commit(3)
    shipping.ship()
    shipping.sink.acknowledge()
    (first,) = shipping.posted
    shipping.answer()
    shipping.commit(2)
    shipping.ship()
    shipping.sink.acknowledge(mark=0, outcome="gap")
    shipping.posted.append(first)
    shipping.answer()
    assert shipping.shipper.backlog == 5
    assert shipping.ship() == [(1, 5)]
