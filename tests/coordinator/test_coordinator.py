from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.coordinator.fakes import LOST, RUN_ID, World
from wonder_ray.coordinator.coordinator import REPORT_WITHIN_US, Snapshot
from wonder_ray.coordinator.loading import state_of
from wonder_ray.coordinator.shipper import BACKLOG_ROWS
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append
from wonder_ray.definitions.models import Retry
from wonder_ray.errors import StaleEpochError, StorageError
from wonder_ray.events.wire import OpenReply
from wonder_ray.executor.protocol import ErrorInfo
from wonder_ray.fold import fold
from wonder_ray.planning.facts import CancelRun
from wonder_ray.storage.memory import MemoryRunStore

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition

NUMBERS = list(range(6))


def chain(**options: Any) -> WorkflowDefinition:
    flow = Workflow("chain", output={"n": "state.n"})
    flow.node("one", "m:one", input={"n": "input.n"}, output={"state.n": "result"}, **options)
    flow.node("two", "m:two", input={"n": "state.n"}, output={"state.n": "result"})
    flow.transition("one", "two")
    return flow.definition()


def fan_out() -> WorkflowDefinition:
    flow = Workflow("fan-out", output={"all": "state.all"})
    flow.compute("first")
    flow.node("each", "m:each", input={"n": "item"})
    flow.compute("done")
    flow.transition("first", "each", foreach="input", group="g")
    flow.transition("each", "done", join=All("g", merge=Append("state.all")))
    return flow.definition()


def finish(world: World) -> None:
    """Let every task succeed and every batch be acknowledged, until the coordinator has nothing left to do."""
    for _ in range(1000):
        for task in world.out:
            task.succeed(1)
        while world.sink.waiting:
            world.sink.acknowledge()
        if world.coordinator.finished:
            return
        world.tick(0.1)
    pytest.fail(f"the run does not end: {world.status}")


def check(world: World) -> None:
    """What is on the disk is whole: dense events, whose fold is the stored state."""
    assert world.committed() == list(range(1, len(world.committed()) + 1))
    rows = [msgspec.json.decode(line) for _, line in world.disk.outboxes["events"].values()]
    world.store.crash()
    stored = MemoryRunStore(world.disk).load()
    assert stored is not None
    assert fold(RUN_ID, rows).durable() == state_of(stored).durable()


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


# --- tasks ---------------------------------------------------------------------------------------------------------


def test_a_late_result_is_refused_and_logged() -> None:
    world = World(fan_out(), NUMBERS).open()
    late, early = world.out[:2]
    early.fail(ErrorInfo("ValueError", "no", retryable=False))
    world.handle()
    assert world.status == "failed"
    late.succeed(1)
    before = len(world.committed())
    world.handle()
    assert len(world.committed()) == before
    assert "late_result_refused" in world.log.types
    finish(world)
    check(world)


def test_tasks_of_a_dead_coordinator_are_sent_again_under_a_new_epoch() -> None:
    world = World(fan_out(), NUMBERS).open()
    assert {task.spec.epoch for task in world.gateway.sent} == {1}
    before = len(world.gateway.sent)
    world.crash()
    world.open()
    again = world.gateway.sent[before:]
    assert {task.spec.epoch for task in again} == {2}
    assert {call.token_id for task in again for call in task.calls} == {
        call.token_id for task in world.gateway.sent[:before] for call in task.calls
    }
    finish(world)
    types = [msgspec.json.decode(line)["event_type"] for _, line in world.disk.outboxes["events"].values()]
    assert types.count("run.resumed") == 1
    assert types.count("token.failed") == types.count("task.failed") == 0
    check(world)


def test_the_tokens_of_a_lost_batch_run_again_alone_and_uncharged() -> None:
    world = World(fan_out(), list(range(600)), slots=1).open()
    for task in world.out:
        task.succeed(1, duration_ms=0.01)
    world.handle()
    batch = next(task for task in world.out if len(task.calls) > 1)
    names = {call.token_id for call in batch.calls}
    before = len(world.gateway.sent)
    batch.lose()
    world.handle()
    finish(world)
    again = [task for task in world.gateway.sent[before:] if {call.token_id for call in task.calls} & names]
    assert {call.token_id for task in again for call in task.calls} == names
    assert {len(task.calls) for task in again} == {1}
    assert "executor_rpc_failed" in world.log.types
    types = [msgspec.json.decode(line)["event_type"] for _, line in world.disk.outboxes["events"].values()]
    assert types.count("task.failed") == 0
    check(world)


def test_a_token_whose_worker_keeps_dying_fails_the_run_at_its_node() -> None:
    world = World(chain(), {"n": 1}).open()
    for _ in range(20):
        for task in world.out:
            task.lose()
        world.tick(10)
    assert world.status == "failed"
    error = world.coordinator.snapshot.error
    assert error is not None
    assert (error["kind"], error["node_id"]) == ("lost", "one")
    assert len(world.gateway.sent) == 3


def test_code_that_cannot_be_loaded_is_not_tried_again() -> None:
    world = World(chain(retry=Retry(max_attempts=5)), {"n": 1}).open()
    world.gateway.sent[0].fail(ErrorInfo("CodeBundleError", "no module 'm'", retryable=False, kind="code"))
    world.handle()
    assert world.status == "failed"
    assert len(world.gateway.sent) == 1


def test_a_timed_out_task_is_stopped_and_its_result_refused() -> None:
    world = World(chain(timeout_s=5), {"n": 1}).open()
    task = world.gateway.sent[0]
    assert world.coordinator.next_wake_us() is not None
    world.tick(4.9)
    assert world.gateway.cancelled == []
    world.tick(0.2)
    assert world.gateway.cancelled == [task]
    assert world.status == "failed"
    task.succeed(1)
    world.handle()
    assert world.status == "failed"


def test_a_cancelled_run_stops_its_tasks() -> None:
    world = World(fan_out(), NUMBERS).open()
    running = list(world.gateway.sent)
    world.command(CancelRun(reason="stop"))
    assert world.gateway.cancelled == running
    assert world.status == "cancelled"


def test_a_retry_waits_for_its_time() -> None:
    world = World(chain(retry=Retry(max_attempts=2, backoff_s=30, jitter=0)), {"n": 1}).open()
    world.gateway.sent[0].fail(ErrorInfo("ValueError", "no", retryable=True))
    world.handle()
    world.tick(29)
    assert len(world.gateway.sent) == 1
    wake_us = world.coordinator.next_wake_us()
    assert wake_us is not None
    world.tick(1.1)
    assert [call.attempt for task in world.gateway.sent for call in task.calls] == [1, 2]
    finish(world)
    assert world.status == "completed"


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
