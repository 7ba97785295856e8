"""Planted bugs in coordinators, turns, stores and shippers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray import workflow_events
from wonder_ray.coordinator import coordinator, dispatcher, machine, opening, shipper
from wonder_ray.storage import memory
from wonder_ray.storage.records import TurnRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    Wrong = Callable[..., Any]

replace = msgspec.structs.replace


# --- I1, I9: before the commit -------------------------------------------------------------------------------------


def tasks_are_sent_before_the_commit(right: Wrong) -> Wrong:
    def wrong(self: Any, turn: Any) -> None:
        self._dispatcher.release(turn.dispatched)
        turn.dispatched = []
        right(self, turn)

    return wrong


def a_caller_hears_yes_before_the_commit(right: Wrong) -> Wrong:
    def wrong(self: Any, command: Any, batch: Any, asked: Any) -> None:
        command.reply({"ok": True})
        right(self, command, batch, asked)

    return wrong


def keys_are_not_stored(right: Wrong) -> Wrong:
    def wrong(self: Any, turn: Any) -> None:
        turn.record.keys.clear()
        right(self, turn)

    return wrong


def keys_are_forgotten_with_their_coordinator(right: Wrong) -> Wrong:
    return lambda **ports: right(**ports | {"keys": {}})


def events_are_published_before_the_commit(right: Wrong) -> Wrong:
    def wrong(self: Any, turn: Any) -> None:
        if turn.record.events:
            self._shippers["events"].committed(turn.record.events[-1][0])
            self._store.disk.outboxes["events"].update({n: (turn.record.epoch, line) for n, line in turn.record.events})
            self._shippers["events"].ship(self._clock.now_us(), urgent=True)
        right(self, turn)

    return wrong


def the_end_is_told_before_it_is_stored(right: Wrong) -> Wrong:
    def wrong(self: Any, turn: Any) -> None:
        if turn.ended:
            self.report()
        right(self, turn)

    return wrong


def a_withdrawn_task_is_not_told_to_stop(_right: Wrong) -> Wrong:
    return lambda _self, _tokens: None


# --- I2, I3, I4: events and state ----------------------------------------------------------------------------------


def events_are_stored_in_a_transaction_of_their_own(right: Wrong) -> Wrong:
    def wrong(self: Any, record: TurnRecord) -> None:
        right(self, replace(record, events=[]))
        right(self, TurnRecord(run=record.run, epoch=record.epoch, events=record.events))

    return wrong


def a_changed_token_is_not_stored(right: Wrong) -> Wrong:
    def wrong(self: Any) -> Any:
        turn = right(self)
        return replace(turn, record=replace(turn.record, tokens=turn.record.tokens[:-1]))

    return wrong


def an_event_is_lost(right: Wrong) -> Wrong:
    def wrong(self: Any) -> Any:
        turn = right(self)
        return replace(turn, record=replace(turn.record, events=turn.record.events[:-1] or turn.record.events))

    return wrong


def a_sequence_number_is_off_by_one(right: Wrong) -> Wrong:
    def wrong(event: Any, stamp: Any) -> bytes:
        line: bytes = right(event, stamp._replace(sequence_number=stamp.sequence_number + (stamp.sequence_number > 20)))
        return line

    return wrong


def the_sequence_begins_anew_with_each_coordinator(right: Wrong) -> Wrong:
    def wrong(stored: Any) -> Any:
        state = right(stored)
        state.run.sequence = 0
        return state

    return wrong


def a_coordinator_changes_a_token_without_an_event(right: Wrong) -> Wrong:
    def wrong(self: Any, room: Any) -> None:
        right(self, room)
        for token in self._dispatched[-1:]:
            token.attempt += 1

    return wrong


def a_coordinator_keeps_state_from_an_undone_turn(right: Wrong) -> Wrong:
    def wrong(self: Any) -> Any:
        turn = right(self)
        turn.record.deltas[:] = turn.record.deltas[:1]
        return turn

    return wrong


# --- I8: two coordinators ------------------------------------------------------------------------------------------


def a_stale_coordinator_may_commit(_right: Wrong) -> Wrong:
    return lambda *_args: None


def an_attempt_keeps_the_epoch_of_an_earlier_coordinator(right: Wrong) -> Wrong:
    def wrong(self: Any, *args: Any, **ports: Any) -> None:
        right(self, *args, **ports | {"epoch": max(1, ports["epoch"] - 1)})

    return wrong


# --- I11: the event service ----------------------------------------------------------------------------------------


def rows_are_forgotten_before_they_are_sealed(right: Wrong) -> Wrong:
    def wrong(self: Any, answer: Any, now_us: int) -> None:
        right(self, answer, now_us)
        if answer.ack is not None:
            self._store.forget(self.stream, answer.ack.mark)

    return wrong


def a_lost_acknowledgement_is_taken_for_one(right: Wrong) -> Wrong:
    def wrong(self: Any, answer: Any, now_us: int) -> None:
        right(self, answer, now_us)
        if answer.ack is None:
            self.mark = self._last

    return wrong


BUGS: Final = (
    ("I1", coordinator.Coordinator, "_commit", tasks_are_sent_before_the_commit),
    ("I1", coordinator.Coordinator, "_commit", events_are_published_before_the_commit),
    ("I1", coordinator.Coordinator, "_commit", the_end_is_told_before_it_is_stored),
    ("R11", dispatcher.Dispatcher, "withdraw", a_withdrawn_task_is_not_told_to_stop),
    ("I9", coordinator.Coordinator, "_admit", a_caller_hears_yes_before_the_commit),
    ("I9", coordinator.Coordinator, "_commit", keys_are_not_stored),
    ("I9", opening, "Coordinator", keys_are_forgotten_with_their_coordinator),
    ("I2", memory.MemoryRunStore, "commit", events_are_stored_in_a_transaction_of_their_own),
    ("I2", machine.Machine, "_finish", a_changed_token_is_not_stored),
    ("I2", machine.Machine, "_finish", an_event_is_lost),
    ("I3", workflow_events, "encode_line", a_sequence_number_is_off_by_one),
    ("I3", opening, "state_of", the_sequence_begins_anew_with_each_coordinator),
    ("I4", machine.Machine, "_dispatch", a_coordinator_changes_a_token_without_an_event),
    ("I4", machine.Machine, "_finish", a_coordinator_keeps_state_from_an_undone_turn),
    ("I8", memory, "check_epoch_current", a_stale_coordinator_may_commit),
    ("I8", machine.Machine, "__init__", an_attempt_keeps_the_epoch_of_an_earlier_coordinator),
    ("I11", shipper.Shipper, "answered", rows_are_forgotten_before_they_are_sealed),
    ("I11", shipper.Shipper, "answered", a_lost_acknowledgement_is_taken_for_one),
)
