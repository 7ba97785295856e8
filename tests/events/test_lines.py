from __future__ import annotations

import msgspec
import pytest

from tests.events.histories import History, info, line, run_id
from wonder_ray.errors import PayloadError
from wonder_ray.events.lines import check_batch, cut_lines, decode_lines
from wonder_ray.events.spans import Span
from wonder_ray.events.wire import EventBatch

HISTORY = History(length=10, starts=(1, 4))


def batch(first: int, last: int, lines: bytes, epoch: int = 1) -> EventBatch:
    return EventBatch(info(run_id(1)), "events", epoch, first, last, lines)


def test_a_batch_is_told_by_its_row_epochs() -> None:
    assert check_batch(HISTORY.batch(2, 6)) == [Span(2, 3, 1), Span(4, 6, 2)]


def test_rows_of_earlier_epochs_may_come_in_a_later_envelope() -> None:
    assert check_batch(HISTORY.batch(1, 3, epoch=9)) == [Span(1, 3, 1)]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (batch(1, 2, line(1)), "1 to 2"),
        (batch(1, 1, line(1) + b"\n"), "2 lines"),
        (batch(1, 2, line(1) + b"\n" + line(3)), "one by one"),
        (batch(1, 2, line(2) + b"\n" + line(1)), "one by one"),
        (batch(0, 0, line(0)), "0 to 0"),
        (batch(1, 1, b""), "0 rows"),
        (batch(1, 1, line(1, epoch=2)), "sender's own"),
        (batch(1, 2, line(1, epoch=2) + b"\n" + line(2, epoch=1), epoch=2), "fall"),
        (batch(1, 1, line(1, attempt="2")), "attempt"),
        (batch(1, 1, line(1, attempt=2.0)), "attempt"),
        (batch(1, 1, line(1, tokens=2**63)), "tokens"),
        (batch(1, 1, line(1, timestamp=-1)), "timestamp"),
        (batch(1, 1, line(1, no_such_column=1)), "no_such_column"),
        (batch(1, 1, line(1)[:-1]), "truncated"),
        (batch(1, 1, line(1).replace(b"fetch", b"\xff")), "utf-8"),
        (batch(1, 1, line(1).replace(b"fetch", b"\\ud800")), "no events row"),
        (batch(1, 1, line(1).replace(b",", b",\n", 1)), "2 lines"),
    ],
)
def test_what_could_not_become_a_row_is_refused(wrong: EventBatch, told: str) -> None:
    with pytest.raises(PayloadError, match=told):
        check_batch(wrong)


def test_cutting_a_batch_keeps_the_bytes_of_its_lines() -> None:
    whole = HISTORY.batch(3, 9)
    assert cut_lines(whole, 3, 9) is whole.lines
    assert cut_lines(whole, 5, 6) == HISTORY.batch(5, 6).lines


def test_batches_cross_process_borders_unchanged() -> None:
    sent = HISTORY.batch(1, 3)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=EventBatch) == sent


def test_trace_lines_have_their_own_shape() -> None:
    rows = decode_lines("trace", HISTORY.batch(1, 2, stream="trace").lines)
    assert [row.sequence_number for row in rows] == [1, 2]
    with pytest.raises(PayloadError, match="trace"):
        decode_lines("trace", HISTORY.batch(1, 2).lines)
