from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.histories import History, in_files, info, line, rows_of, run_id
from wonder_ray.errors import ServiceUnavailableError, StaleEpochError, StorageError, WonderError
from wonder_ray.events.query import EventReader
from wonder_ray.events.sealing import EventSettings
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import Ack, EventBatch, OpenReply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import WaitUntil

HISTORY = History(length=60, starts=(1, 21, 41))
EAGER = EventSettings(flush_interval_s=0.0)


@pytest.fixture
def service(storage: Path) -> Iterator[EventService]:
    with EventService(storage, settings=EAGER) as service:
        yield service


def send(service: EventService, batch: EventBatch) -> Ack:
    [ack] = service.submit([batch])
    return ack


def test_an_unknown_run_has_no_marks(service: EventService) -> None:
    assert service.open(HISTORY.run, 1) == OpenReply(0, 0, 0, 0, [])


def test_acknowledged_rows_raise_the_mark_and_sealed_ones_follow(service: EventService) -> None:
    service.open(HISTORY.run, 1, new=True)
    assert send(service, HISTORY.batch(1, 10)) == Ack(HISTORY.run, "events", 10, 0, "ok")
    assert service.flush(HISTORY.run) == OpenReply(10, 10, 0, 0, [(1, 1)])
    assert send(service, HISTORY.batch(11, 12)) == Ack(HISTORY.run, "events", 12, 10, "ok")


def test_duplicates_are_acknowledged_again(service: EventService) -> None:
    send(service, HISTORY.batch(1, 10))
    assert send(service, HISTORY.batch(3, 8)).outcome == "ok"
    service.flush()
    assert send(service, HISTORY.batch(1, 10)).outcome == "ok"
    service.flush()
    assert in_files(service.layout.storage) == rows_of(History(length=10))


def test_a_batch_over_the_mark_is_trimmed(service: EventService) -> None:
    send(service, HISTORY.batch(1, 10))
    assert send(service, HISTORY.batch(5, 15)).mark == 15
    service.flush()
    assert in_files(service.layout.storage) == rows_of(History(length=15))


def test_a_gap_tells_the_mark_and_stores_nothing(service: EventService) -> None:
    send(service, HISTORY.batch(1, 10))
    ack = send(service, HISTORY.batch(15, 20))
    assert (ack.outcome, ack.mark) == ("gap", 10)
    assert "11 to 14" in ack.message
    assert service.marks(HISTORY.run).mark == 10


def test_another_row_under_a_number_that_is_held_is_a_conflict(service: EventService) -> None:
    send(service, HISTORY.batch(1, 10))
    other = EventBatch(info(HISTORY.run), "events", 2, 10, 11, line(10, epoch=2) + b"\n" + line(11, epoch=2))
    ack = send(service, other)
    assert (ack.outcome, ack.mark) == ("conflict", 10)
    assert HISTORY.run in ack.message


def test_only_the_envelope_is_fenced(service: EventService) -> None:
    service.open(HISTORY.run, 3)
    assert send(service, HISTORY.batch(1, 30, epoch=3)).outcome == "ok"
    assert send(service, HISTORY.batch(31, 35, epoch=2)).outcome == "stale"
    assert send(service, HISTORY.batch(31, 60, epoch=3)).outcome == "ok"
    assert service.marks(HISTORY.run).boundaries == [(1, 1), (21, 2), (41, 3)]


def test_open_is_fenced_and_may_be_repeated_by_its_owner(service: EventService) -> None:
    service.open(HISTORY.run, 2)
    service.open(HISTORY.run, 2)
    with pytest.raises(StaleEpochError, match="epoch 1 was fenced off by epoch 2"):
        service.open(HISTORY.run, 1)


def test_a_fence_outlives_the_service(storage: Path) -> None:
    with EventService(storage) as service:
        service.open(HISTORY.run, 5)
    with EventService(storage) as service:
        assert send(service, HISTORY.batch(1, 5)).outcome == "stale"


def test_a_batch_that_is_no_batch_spoils_no_other(service: EventService) -> None:
    good, bad = HISTORY.batch(1, 5), msgspec.structs.replace(HISTORY.batch(1, 5), lines=b"no json")
    other = History(2).batch(1, 2)
    assert [ack.outcome for ack in service.submit([bad, good, other])] == ["invalid", "ok", "ok"]


def test_a_run_id_that_the_system_did_not_make_is_refused(service: EventService) -> None:
    with pytest.raises(WonderError, match="not a run id"):
        service.open("../../etc", 1)
    with pytest.raises(WonderError, match="not a run id"):
        service.submit([msgspec.structs.replace(HISTORY.batch(1, 1), run=info("run_1' OR 1"))])


def test_trace_events_have_marks_and_a_dataset_of_their_own(service: EventService) -> None:
    service.submit([HISTORY.batch(1, 5), HISTORY.batch(1, 9, stream="trace")])
    assert service.flush(HISTORY.run) == OpenReply(5, 5, 9, 9, [(1, 1)])
    storage = service.layout.storage
    assert in_files(storage) == rows_of(History(length=5))
    assert in_files(storage, "trace") == rows_of(History(length=9))
    assert [row.details["n"] for row in EventReader(storage).read_trace(HISTORY.run, after=7)] == [8, 9]


def test_rows_are_sealed_by_size(storage: Path, wait_until: WaitUntil) -> None:
    with EventService(storage, settings=EventSettings(flush_rows=20)) as service:
        send(service, HISTORY.batch(1, 20))
        wait_until(lambda: service.marks(HISTORY.run).sealed == 20)


def test_rows_are_sealed_by_age(storage: Path, wait_until: WaitUntil) -> None:
    with EventService(storage, settings=EventSettings(flush_age_s=0.05)) as service:
        send(service, HISTORY.batch(1, 20))
        wait_until(lambda: service.marks(HISTORY.run).sealed == 20)
        send(service, HISTORY.batch(21, 30))
        wait_until(lambda: service.marks(HISTORY.run).sealed == 30)


def test_many_flushes_are_one(storage: Path) -> None:
    with EventService(storage, settings=EventSettings(flush_interval_s=0.5)) as service:
        service.flush()
        before = service.stats().flushes
        histories = [History(n, length=5) for n in range(20)]
        for history in histories:
            send(service, history.batch(1, 5))
        for done in [service.flush_soon() for _ in histories]:
            done.result()
        assert service.stats().flushes <= before + 2
        assert len(list(storage.glob("events/*/*.parquet"))) == 1
        assert in_files(storage) == rows_of(*histories)


def test_many_senders_share_commits(storage: Path) -> None:
    histories = [History(n, length=200) for n in range(8)]
    with EventService(storage) as service:
        before = service.stats().commits

        def send_all(history: History) -> None:
            for first in range(1, 201, 4):
                assert send(service, history.batch(first, first + 3)).outcome == "ok"

        threads = [threading.Thread(target=send_all, args=(history,)) for history in histories]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert service.stats().commits - before < 400
    assert in_files(storage) == rows_of(*histories)


def test_closing_seals_everything_and_empties_the_log(storage: Path) -> None:
    with EventService(storage) as service:
        send(service, HISTORY.batch(1, 60, epoch=3))
    assert in_files(storage) == rows_of(HISTORY)
    with EventService(storage) as service:
        assert service.stats().rows_unsealed == 0
        assert service.open(HISTORY.run, 3).sealed == 60


def test_a_full_queue_refuses_more_and_loses_nothing(storage: Path) -> None:
    held, entered = threading.Event(), threading.Event()

    def hold(name: str) -> None:
        if name == "append.before_commit":
            entered.set()
            held.wait(20)

    with EventService(storage, settings=EventSettings(queue_bytes=1000), failpoint=hold) as service:
        first = service.submit_soon([HISTORY.batch(1, 10)])
        assert entered.wait(10)
        second = service.submit_soon([HISTORY.batch(11, 20)])
        with pytest.raises(ServiceUnavailableError, match="send again"):
            service.submit_soon([HISTORY.batch(21, 30)])
        held.set()
        assert [first.result()[0].mark, second.result()[0].mark] == [10, 20]


def test_a_closed_service_refuses(storage: Path) -> None:
    service = EventService(storage)
    service.close()
    with pytest.raises(ServiceUnavailableError):
        service.open(run_id(1), 1)
    with pytest.raises(ServiceUnavailableError):
        service.flush()


def test_files_that_cannot_be_written_leave_the_rows_in_the_log(storage: Path) -> None:
    broken = [True]

    def fail(name: str) -> None:
        if name == "file.written" and broken[0]:
            raise OSError(28, "No space left on device")

    service = EventService(storage, settings=EAGER, failpoint=fail)
    send(service, HISTORY.batch(1, 20))
    with pytest.raises(OSError, match="No space"):
        service.flush()
    assert "No space" in (service.stats().flush_error or "")
    assert service.marks(HISTORY.run) == OpenReply(20, 0, 0, 0, [(1, 1)])
    assert len(EventReader(storage).read(HISTORY.run)) == 20
    broken[0] = False
    service.close()
    assert in_files(storage) == rows_of(History(length=20))


def test_a_log_that_fails_ends_the_service_loudly(storage: Path) -> None:
    died: list[BaseException] = []

    def fail(name: str) -> None:
        if name == "append.before_commit":
            raise StorageError("disk I/O error")

    service = EventService(storage, failpoint=fail, on_fatal=died.append)
    with pytest.raises(StorageError, match="has stopped"):
        service.submit([HISTORY.batch(1, 5)])
    with pytest.raises(WonderError):
        service.submit([HISTORY.batch(1, 5)])
    assert [str(error) for error in died] == ["disk I/O error"]
    service.abandon()


Step = tuple[str, int, int]


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 60), st.integers(0, 25)),
            st.tuples(st.just("next"), st.just(0), st.integers(0, 25)),
            st.tuples(st.just("forged"), st.integers(1, 60), st.integers(0, 5)),
            st.tuples(st.sampled_from(["flush", "kill", "restart", "move"]), st.just(0), st.just(0)),
        ),
        max_size=25,
    )
)
@settings(max_examples=25)
def test_every_event_is_in_the_files_exactly_once_whatever_the_delivery(
    steps: list[Step], tmp_path_factory: pytest.TempPathFactory
) -> None:
    storage = tmp_path_factory.mktemp("storage")
    instance, mark, sender = 1, 0, 3
    service = EventService(storage, instance=instance, settings=EAGER)
    for kind, start, length in steps:
        if kind in {"kill", "restart", "move"}:
            service.close() if kind == "restart" else service.abandon()
            instance += kind == "move"
            service = EventService(storage, instance=instance, settings=EAGER)
        elif kind == "flush":
            reply = service.flush(HISTORY.run)
            assert reply is not None
            assert (reply.mark, reply.sealed) == (mark, mark)
        elif kind == "forged":
            batch = EventBatch(info(HISTORY.run), "events", 9, start, start, line(start, epoch=9))
            if start <= mark:
                sender = 9
                assert send(service, batch).outcome == "conflict"
        else:
            first = start or min(mark + 1, 60)
            last = min(first + length, 60)
            ack = send(service, HISTORY.batch(first, last, epoch=sender))
            assert ack.outcome == ("ok" if first <= mark + 1 else "gap")
            mark = max(mark, last) if ack.outcome == "ok" else mark
            assert ack.mark == mark
    reply = service.open(HISTORY.run, sender)
    assert reply.mark == mark
    if mark < 60:
        assert send(service, HISTORY.batch(reply.mark + 1, 60, epoch=sender)).outcome == "ok"
    read = EventReader(storage).read(HISTORY.run)
    assert [row.sequence_number for row in read] == list(range(1, 61))
    service.close()
    assert set(in_files(storage)) <= set(rows_of(HISTORY))
    with EventService(storage, instance=instance + 1, settings=EAGER) as last_service:
        last_service.flush()
    assert in_files(storage) == rows_of(HISTORY)
