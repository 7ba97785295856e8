from __future__ import annotations

import msgspec

from tests.coordinator.fakes import World
from tests.coordinator.flows import NUMBERS, chain, check, fan_out, finish
from wonder_ray.definitions.models import Retry
from wonder_ray.executor.protocol import ErrorInfo
from wonder_ray.planning.facts import CancelRun


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
