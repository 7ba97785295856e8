from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.coordinator.fakes import LOST, RUN_ID, World
from tests.coordinator.flows import NUMBERS, chain, check, fan_out, finish
from wonder_ray.coordinator.coordinator import REPORT_WITHIN_US
from wonder_ray.coordinator.shipper import BACKLOG_ROWS
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.models import Retry
from wonder_ray.errors import StaleEpochError, StorageError
from wonder_ray.events.wire import OpenReply
from wonder_ray.executor.protocol import ErrorInfo
from wonder_ray.planning.facts import CancelRun

if TYPE_CHECKING:
    from wonder_ray.coordinator.messages import Snapshot


def failing_at(where: str) -> Any:
    def fault(at: str) -> None:
        if at == where:
            raise StorageError("no space left on the disk")

    return fault


# --- the order of things -------------------------------------------------------------------------------------------


def test_a_run_goes_from_its_start_to_its_end() -> None:
    world = World(chain(), {"n": 1}).open()
    assert world.services.asked == ["claim", "open"]
    finish(world)
    assert world.status == "completed"
    assert [task.spec.node_id for task in world.gateway.sent] == ["one", "two"]
    check(world)


@pytest.mark.parametrize("where", ["before commit", "after commit"])
def test_nothing_leaves_before_the_commit(where: str) -> None:
    world = World(fan_out(), NUMBERS)
    world.open()
    sent, batches = len(world.gateway.sent), len(world.sink.waiting)
    world.gateway.sent[0].succeed(1)
    heard: list[Any] = []
    world.fault = failing_at(where)
    with pytest.raises(StorageError, match="no space"):
        heard = world.command(CancelRun(reason="stop", key="c"), key="c")
    assert heard == []
    assert len(world.gateway.sent) == sent
    assert world.gateway.cancelled == []
    assert len(world.sink.waiting) == batches
    assert [report["status"] for report in world.registry.reports if report["status"] != "running"] == []
    assert "storage_failed" in world.log.types


def test_the_first_turn_sends_nothing_when_it_cannot_be_stored() -> None:
    world = World(chain(), {"n": 1})
    epochs = iter([None, failing_at("before commit")])  # the epoch is taken, the turn is not stored

    def fault(where: str) -> None:
        if where == "before commit" and (fail := next(epochs)) is not None:
            fail(where)

    world.fault = fault
    with pytest.raises(StorageError):
        world.open()
    assert (world.gateway.sent, world.sink.waiting, world.registry.reports) == ([], [], [])


def test_a_reply_comes_after_its_commit_and_a_key_counts_once() -> None:
    world = World(chain(), {"n": 1}).open()
    order: list[str] = []
    world.fault = order.append
    heard = world.command(CancelRun(reason="stop", key="c"), key="c")
    assert heard == [{"ok": True, "run_id": RUN_ID}]
    assert order == ["before commit", "after commit"]
    events = len(world.committed())
    assert world.command(CancelRun(reason="again", key="c"), key="c") == heard
    assert len(world.committed()) == events
    assert world.status == "cancelled"


def test_a_key_is_remembered_across_coordinators() -> None:
    world = World(chain(), {"n": 1}).open()
    heard = world.command(CancelRun(reason="stop", key="c"), key="c")
    world.crash()
    world.open()
    events = len(world.committed())
    assert world.command(CancelRun(reason="again", key="c"), key="c") == heard
    assert len(world.committed()) == events


def test_many_messages_are_one_turn() -> None:
    world = World(fan_out(), NUMBERS).open()
    commits: list[str] = []
    world.fault = commits.append
    for task in world.out:
        task.succeed(1)
    world.handle()
    assert commits == ["before commit", "after commit"]
    finish(world)
    check(world)


# --- events and the registry ---------------------------------------------------------------------------------------


def test_the_end_is_told_once_its_events_are_acknowledged() -> None:
    world = World(chain(), {"n": 1}).open()
    world.gateway.sent[0].succeed(1)
    world.handle()
    world.gateway.sent[1].succeed(2)
    world.handle()
    assert world.coordinator.ended
    assert world.registry.reports == []
    while world.sink.waiting:
        world.sink.acknowledge()
        world.tick(0.1)
    (report,) = world.registry.reports
    assert (report["status"], report["output"], report["events"]) == ("completed", b'{"n":2}', len(world.committed()))
    assert world.sink.flushes == 1
    assert world.coordinator.finished


def test_the_end_is_told_although_the_event_service_is_away_for_long() -> None:
    world = World(chain(), {"n": 1}).open()
    for _ in range(2):
        world.out[0].succeed(1)
        world.handle()
    for _ in range(40):
        while world.sink.waiting:
            world.sink.fail()
            world.handle()
        wake_us = world.coordinator.next_wake_us()
        assert wake_us is not None
        world.tick(max(0.001, (wake_us - world.clock.now_us()) / 1_000_000))
    assert [report["status"] for report in world.registry.reports] == ["completed"]
    assert not world.coordinator.finished, "the events are not safe yet"
    finish(world)
    assert len(world.registry.reports) == 1
    assert REPORT_WITHIN_US <= 60_000_000


def test_a_run_that_ended_unheard_is_told_when_it_is_opened_again() -> None:
    world = World(chain(), {"n": 1}).open()
    for _ in range(2):
        world.out[0].succeed(1)
        world.handle()
    assert world.coordinator.ended
    events = world.committed()
    world.crash()
    world.open()
    finish(world)
    assert world.committed() == events, "an ended run gets no further event"
    assert world.registry.reports[-1]["status"] == "completed"


def test_nothing_is_dispatched_while_the_event_pipeline_is_far_behind() -> None:
    world = World(fan_out(), list(range(40))).open()
    before = len(world.gateway.sent)
    assert before < 40
    shipper = world.coordinator._shippers["events"]
    shipper._last += BACKLOG_ROWS + 1
    for task in world.out:
        task.succeed(1)
    world.handle()
    assert len(world.gateway.sent) == before
    shipper._last -= BACKLOG_ROWS + 1
    finish(world)
    assert world.status == "completed"


def test_a_coordinator_that_was_fenced_off_stops_at_once() -> None:
    world = World(chain(), {"n": 1}).open()
    world.gateway.sent[0].succeed(1)
    world.sink.acknowledge(mark=0, outcome="stale")
    with pytest.raises(StaleEpochError):
        world.handle()
    assert len(world.gateway.sent) == 1


def test_a_run_whose_file_is_gone_is_not_begun_anew() -> None:
    world = World(chain(), {"n": 1})
    world.services.opened = OpenReply(12, 12, 0, 0, [(1, 1)])
    with pytest.raises(StorageError, match="12 events"):
        world.open()
    assert world.gateway.sent == []


def test_a_traced_run_ships_a_second_stream() -> None:
    world = World(chain(), {"n": 1}, trace=True).open()
    streams = set()
    for _ in range(100):
        for task in world.out:
            task.succeed(1)
        while world.sink.waiting:
            streams.add(world.sink.acknowledge().stream)
        if world.coordinator.finished:
            break
        world.tick(0.1)
    assert streams == {"events", "trace"}
    traces = sorted(world.disk.outboxes["trace"])
    assert traces == list(range(1, len(traces) + 1))


def test_a_snapshot_says_how_the_run_stands() -> None:
    world = World(fan_out(), NUMBERS).open()
    snapshot: Snapshot = world.coordinator.snapshot
    assert (snapshot.status, snapshot.nodes["each"], snapshot.in_flight) == ("running", {"dispatched": 6}, 6)
    world.gateway.sent[0].lose(LOST)
    world.tick(1)
    finish(world)
    last = world.coordinator.snapshot
    assert (last.status, last.output) == ("completed", {"all": [1] * 6})
    assert last.nodes["each"] == {"completed": 6}
    assert last.executor_pids == (7,)
    assert last.in_flight == 0


# --- room ----------------------------------------------------------------------------------------------------------


def test_nodes_that_share_a_lane_share_its_room() -> None:
    """A wide graph of one action in many nodes must not flood the cluster: what is in flight is bounded by lane."""
    flow = Workflow("wide", output={})
    for i in range(50):
        flow.node(f"n{i}", "m:same", input={"n": str(i)})
    world = World(flow.definition(), None).open()
    window = sum(len(task.calls) for task in world.out)
    assert 0 < window < 50
    finish(world)
    assert world.status == "completed"
    check(world)


def test_room_that_a_withdrawn_task_frees_is_used() -> None:
    """An attempt that timed out holds its slot until it has stopped; the next one must not wait for another message."""
    world = World(chain(timeout_s=5, retry=Retry(max_attempts=2, backoff_s=0)), {"n": 1}, slots=1).open()
    (stuck,) = world.out
    world.tick(6)
    world.tick(1)
    assert world.out == [stuck]
    stuck.lose(ErrorInfo("TaskCancelledError", "cancelled", retryable=False, kind="cancelled"))
    world.handle()
    assert [task.calls[0].attempt for task in world.out] == [2]
    finish(world)
    assert world.status == "completed"
    check(world)
