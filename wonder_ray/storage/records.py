"""What goes into a run's storage and what comes back: one record per turn in, one stored run out.

>>> record = TurnRecord(run=Run(run_id="run_000000000000_0000000000000000", turn=1, sequence=1), epoch=1)
>>> record.events.append((1, b'{"sequence_number":1}'))
"""

from __future__ import annotations

import msgspec

from wonder_ray.state import Fanout, Group, Run, Token


class ContextDelta(msgspec.Struct, frozen=True, gc=False):
    """One write to the scoped context. The context is the log of these, never a snapshot."""

    scope_id: str
    """The scope written to: `ROOT_SCOPE` or the id of a branch's first token."""
    target: str
    """What was written: `state.a.b`."""
    op: str
    """How it was written: `set`."""
    value: bytes
    """The value as a JSON text."""


class TurnRecord(msgspec.Struct, kw_only=True):
    """Everything that one turn changed, committed as one transaction."""

    run: Run
    epoch: int
    """The coordinator epoch this turn was made under; stored beside each event."""
    tokens: list[Token] = []
    """New or changed tokens; each replaces the row of its ordinal."""
    groups: list[Group] = []
    """New or changed groups, by ordinal."""
    fanouts: list[Fanout] = []
    """New or changed fan-outs, by ordinal."""
    deltas: list[ContextDelta] = []
    """Writes to the context, in order; appended."""
    iterations: list[tuple[str, str, int]] = []
    """(scope id, transition id, times taken); each replaces the count of its pair."""
    keys: list[tuple[str, bytes]] = []
    """(message key, reply) of messages this turn handled. A key that is stored already fails the commit."""
    events: list[tuple[int, bytes]] = []
    """(sequence number, line without a line break): ascending without gaps, above every sequence number stored before."""
    traces: list[tuple[int, bytes]] = []
    """(sequence number, line) of trace events, which have a sequence of their own."""
    records: list[tuple[str, str, bytes | None]] = []
    """(kind, id, JSON) of kept signals and answers, child runs and undos; None drops one."""
    meta: dict[str, bytes] = {}
    """Facts to set in the same transaction (see `RunStore.set_meta`)."""


class StoredRun(msgspec.Struct, kw_only=True):
    """A run as its last committed turn left it."""

    run: Run
    tokens: list[Token]
    """By ordinal."""
    groups: list[Group]
    """By ordinal."""
    fanouts: list[Fanout]
    """By ordinal."""
    deltas: list[ContextDelta]
    """In the order they were written."""
    iterations: list[tuple[str, str, int]]
    """(scope id, transition id, times taken), sorted."""
    records: list[tuple[str, str, bytes]]
    """(kind, id, JSON), sorted."""
    keys: dict[str, bytes]
    """The reply given to each message key."""
    epoch_max: int
    """The highest epoch taken or committed under."""
    last_sequence: int
    """The highest event sequence number ever committed, whether or not its row was forgotten; 0 before the first."""
    last_trace_sequence: int
    """The same of trace events."""
