from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.events.histories import History, in_files, info, line, rows_of
from wonder_ray.errors import ServiceUnavailableError, StaleEpochError, StorageError
from wonder_ray.events import service as service_module
from wonder_ray.events.claiming import Claim, claim_runs
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import EventLayout, LogLock
from wonder_ray.events.query import EventReader
from wonder_ray.events.sealing import EventSettings
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import WaitUntil

EAGER = EventSettings(flush_interval_s=0.0)
HISTORY = History(length=30, starts=(1, 11, 21))


@pytest.fixture
def first(storage: Path) -> Iterator[EventService]:
    with EventService(storage, instance=1, settings=EAGER) as service:
        yield service


@pytest.fixture
def second(first: EventService, storage: Path) -> Iterator[EventService]:
    with EventService(storage, instance=2, settings=EAGER) as service:
        yield service


def numbers(storage: Path) -> list[int]:
    return [row.sequence_number for row in EventReader(storage).read(HISTORY.run)]


def test_a_run_that_moves_takes_its_marks_along(first: EventService, second: EventService) -> None:
    first.submit([HISTORY.batch(1, 10)])
    reply = second.open(HISTORY.run, 2)
    assert (reply.mark, reply.sealed, reply.boundaries) == (10, 0, [(1, 1)])
    assert second.submit([HISTORY.batch(5, 15)])[0].outcome == "ok"
    assert numbers(first.layout.storage) == list(range(1, 16))


def test_rows_are_sealed_only_when_the_other_instance_has_sealed_its_part(first: EventService, second: EventService) -> None:
    first.submit([HISTORY.batch(1, 10)])
    second.open(HISTORY.run, 2)
    second.submit([HISTORY.batch(11, 15)])
    reply = second.flush(HISTORY.run)
    assert reply is not None
    assert (reply.mark, reply.sealed) == (15, 0)
    first.flush()
    reply = second.flush(HISTORY.run)
    assert reply is not None
    assert reply.sealed == 15
    assert in_files(first.layout.storage) == rows_of(History(length=15))


def test_an_older_sender_is_fenced_off_at_the_other_instance_too(first: EventService, second: EventService) -> None:
    first.submit([HISTORY.batch(1, 10)])
    second.open(HISTORY.run, 2)
    assert first.submit([HISTORY.batch(11, 12, epoch=1)])[0].outcome == "stale"
    assert first.submit([EventBatch(info(HISTORY.run), "events", 1, 11, 11, line(11))])[0].outcome == "stale"
    with pytest.raises(StaleEpochError):
        first.open(HISTORY.run, 1)


def test_one_sender_through_two_instances_stores_nothing_twice(first: EventService, second: EventService) -> None:
    for number in range(1, 11):
        instance = first if number % 2 else second
        ack = instance.submit([HISTORY.batch(max(1, number - 2), number)])[0]
        assert (ack.outcome, ack.mark) == ("ok", number)
    first.flush()
    second.flush()
    assert in_files(first.layout.storage) == rows_of(History(length=10))


def test_an_instance_that_never_heard_of_a_run_learns_its_fence(first: EventService, second: EventService) -> None:
    first.open(HISTORY.run, 3, new=True)
    assert second.submit([HISTORY.batch(1, 5, epoch=2)])[0].outcome == "stale"
    assert second.submit([HISTORY.batch(1, 5, epoch=2)])[0].outcome == "stale"


@pytest.mark.parametrize("moment", ["claim.fenced_here", "claim.fenced_there"])
def test_of_two_claims_at_once_at_most_one_wins(first: EventService, second: EventService, moment: str) -> None:
    layout = first.layout
    claim = Claim(HISTORY.run, 2)
    paths = [layout.log_path(8), layout.log_path(9)]
    locks = [LogLock.try_acquire(path) for path in paths]
    with CommitLog.own(paths[0]) as mine, CommitLog.own(paths[1]) as other:
        rivals: list[object] = []

        def rival(name: str) -> None:
            if name == moment:
                rivals.extend(claim_runs(other, layout, [claim]))

        outcomes = claim_runs(mine, layout, [claim], rival)
        owners = [log for log in (mine, other) if (fence := log.fence(HISTORY.run)) is not None and fence.owned]
        assert len(owners) <= 1
        assert [rivals, outcomes].count([None]) == 1
        assert any(isinstance(outcome, ServiceUnavailableError) for outcome in (*outcomes, *rivals)) or owners == [mine]
        assert claim_runs(mine, layout, [claim]) == [None]
        assert [bool(fence and fence.owned) for fence in (mine.fence(HISTORY.run), other.fence(HISTORY.run))] == [True, False]
    for lock in locks:
        assert lock is not None
        lock.release()


def test_a_dead_instance_s_log_is_sealed_under_its_own_names_and_taken_over(storage: Path, wait_until: WaitUntil) -> None:
    dead = EventService(storage, instance=4, settings=EAGER)
    dead.flush()  # its first look at what is to be sealed is over
    dead.submit([HISTORY.batch(1, 10)])
    dead.abandon()
    assert in_files(storage) == []
    with EventService(storage, instance=5, settings=EAGER) as heir:
        assert heir.open(HISTORY.run, 1).mark == 10
        wait_until(lambda: [path.name for path in heir.layout.logs()] == ["5.sqlite"])
        assert in_files(storage) == rows_of(History(length=10))
        assert [path.name[:6] for path in storage.glob("events/*/*.parquet")] == ["000004"]
        heir.flush()
        assert heir.marks(HISTORY.run).sealed == 10
    assert sorted(path.name for path in (storage / "eventlog").iterdir()) == ["5.lock", "5.sqlite", "tmp"]


def test_a_restart_without_a_number_goes_on_with_the_log_that_is_free(storage: Path) -> None:
    dead = EventService(storage)
    dead.submit([HISTORY.batch(1, 10)])
    dead.abandon()
    with EventService(storage) as successor:
        assert successor.instance == dead.instance
        with EventService(storage) as another:
            assert another.instance == dead.instance + 1


def test_two_live_instances_of_one_number_are_refused(
    first: EventService, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "LOCK_WAIT_S", 0.1)
    with pytest.raises(StorageError, match="two event services have the number 1"):
        EventService(storage, instance=1)


def test_marks_come_back_from_the_files_when_the_log_is_lost(storage: Path) -> None:
    with EventService(storage, instance=1) as service:
        service.submit([HISTORY.batch(1, 25, epoch=3), HISTORY.batch(1, 4, stream="trace", epoch=3)])
    for path in (storage / "eventlog").glob("1.*"):
        path.unlink()
    with EventService(storage, instance=1, settings=EAGER) as service:
        reply = service.open(HISTORY.run, 3)
        assert (reply.mark, reply.sealed, reply.trace_mark) == (25, 25, 4)
        assert reply.boundaries == [(1, 1), (11, 2), (21, 3)]
        assert service.submit([HISTORY.batch(20, 30)])[0].outcome == "ok"
    assert in_files(storage) == rows_of(HISTORY)


def test_a_hole_that_a_lost_log_has_left_is_refilled_without_doubles(storage: Path) -> None:
    one = EventService(storage, instance=1, settings=EAGER)
    one.submit([HISTORY.batch(1, 10)])
    one.flush()
    one.submit([HISTORY.batch(11, 20)])
    with EventService(storage, instance=2, settings=EAGER) as two:
        two.open(HISTORY.run, 3)
        two.submit([HISTORY.batch(21, 25)])
        two.flush()
        one.abandon()
    layout = EventLayout(storage)
    for path in layout.log_dir.glob("[12].*"):
        path.unlink()
    with EventService(storage, instance=3, settings=EAGER) as service:
        reply = service.open(HISTORY.run, 3)
        assert (reply.mark, reply.sealed) == (10, 10)
        assert service.submit([HISTORY.batch(15, 20, epoch=3)])[0].outcome == "gap"
        assert service.submit([HISTORY.batch(11, 30)])[0].outcome == "ok"
    assert in_files(storage) == rows_of(HISTORY)


def test_a_log_that_vanishes_beside_a_live_instance_is_replaced_by_its_files(second: EventService, storage: Path) -> None:
    third = EventService(storage, instance=3, settings=EAGER)
    second.open(History(9).run, 1)
    third.submit([HISTORY.batch(1, 10)])
    third.flush()
    third.submit([HISTORY.batch(11, 12, epoch=1)])
    third.abandon()
    for path in (storage / "eventlog").glob("3.*"):
        path.unlink()
    assert second.open(HISTORY.run, 2).mark == 10
