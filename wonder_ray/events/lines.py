"""The lines of a batch: their shape, and the check that nothing is stored that could not become a Parquet row later.

>>> check_batch(batch)  # doctest: +SKIP
[Span(first=1, last=1000, epoch=3)]
"""

from __future__ import annotations

from itertools import groupby, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import msgspec

from wonder_ray.errors import PayloadError
from wonder_ray.events.spans import Span

if TYPE_CHECKING:
    from wonder_ray.events.wire import EventBatch, Stream

Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Time: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]
"""Microseconds UTC, from 1970 to the end of 9999: what has a date that every reader knows."""


class EventLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One workflow event as it is sent; absent fields are null."""

    sequence_number: Int64
    turn: Int64
    turn_now: Time
    epoch: Int64
    timestamp: Time
    event_type: str
    node_id: str | None = None
    token_id: str | None = None
    path_id: str | None = None
    attempt: Int64 | None = None
    duration_ms: float | None = None
    tokens: Int64 | None = None
    cost_usd: float | None = None
    message: str | None = None
    metadata: str | None = None


class TraceLine(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One trace event as it is sent; absent fields are null."""

    sequence_number: Int64
    turn: Int64
    timestamp: Time
    epoch: Int64
    event_type: str
    category: str
    node_id: str | None = None
    token_id: str | None = None
    duration_ms: float | None = None
    payload: str | None = None


_event_decoder: Final = msgspec.json.Decoder(EventLine)
_trace_decoder: Final = msgspec.json.Decoder(TraceLine)
_epoch_of = attrgetter("epoch")


def decode_lines(stream: Stream, lines: bytes) -> list[EventLine] | list[TraceLine]:
    """The typed lines; a `PayloadError` when one of them is not what its stream holds."""
    try:
        return _event_decoder.decode_lines(lines) if stream == "events" else _trace_decoder.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"a line is no {stream} row: {error}"
        raise PayloadError(msg) from None


def check_batch(batch: EventBatch) -> list[Span]:
    """The batch's rows as spans of one row epoch each; a `PayloadError` when they are not what the envelope says."""
    rows = decode_lines(batch.stream, batch.lines)
    count, breaks = batch.last - batch.first + 1, batch.lines.count(b"\n")
    if batch.first < 1 or not rows or len(rows) != count or breaks != count - 1:
        msg = f"the envelope says {batch.first} to {batch.last}, but there are {len(rows)} rows, {breaks + 1} lines"
        raise PayloadError(msg)
    if [row.sequence_number for row in rows] != list(range(batch.first, batch.last + 1)):
        msg = f"the sequence numbers are not {batch.first} to {batch.last}, one by one"
        raise PayloadError(msg)
    spans: list[Span] = []
    for epoch, same in groupby(map(_epoch_of, rows)):
        first = spans[-1].last + 1 if spans else batch.first
        spans.append(Span(first, first + sum(1 for _ in same) - 1, epoch))
    if any(a.epoch > b.epoch for a, b in pairwise(spans)) or spans[-1].epoch > batch.epoch:
        msg = f"row epochs {[span.epoch for span in spans]} fall, or exceed the sender's own, {batch.epoch}"
        raise PayloadError(msg)
    return spans


def cut_lines(batch: EventBatch, first: int, last: int) -> bytes:
    """The lines of the rows `first` to `last` of a checked batch."""
    if (first, last) == (batch.first, batch.last):
        return batch.lines
    return b"\n".join(batch.lines.split(b"\n")[first - batch.first : last - batch.first + 1])
