from __future__ import annotations

from typing import Any

import pytest

from tests.coordinator.fakes import LOST, RUN_ID, FakeGateway
from wonder_ray.coordinator.dispatcher import AHEAD, BATCH_MAX, Dispatcher, Finished, Work
from wonder_ray.executor.protocol import ActionRef, TaskSpec
from wonder_ray.state import Token

SLOTS = 4


def work(node: str = "a", *, lane: str = "one", batch: bool = True, timed: bool = False) -> Work:
    spec = TaskSpec(run_id=RUN_ID, workflow_name="w", node_id=node, epoch=0, action=ActionRef("f", "m:f"), storage="/s")
    return Work(lane=lane, spec=spec, resources={"num_cpus": 1}, batch=batch, timed=timed)


def tokens(count: int, node: str = "a", *, start: int = 0, solo: bool = False) -> list[Token]:
    return [
        Token(id=f"t_{node}_{i}", ordinal=i, node_id=node, path_id="root", attempt=1, epoch=3, solo=solo, input={"n": i})
        for i in range(start, start + count)
    ]


class Sending:
    """A dispatcher with its gateway and mailbox."""

    def __init__(self, **works: Work) -> None:
        self.gateway = FakeGateway(SLOTS)
        self.posted: list[Finished] = []
        self.dispatcher = Dispatcher(works or {"a": work()}, self.gateway, self.posted.append, epoch=3)

    def sizes(self) -> list[int]:
        return [len(task.calls) for task in self.gateway.sent]

    def take_back(self) -> list[Any]:
        found = [self.dispatcher.finished(message) for message in self.posted]
        self.posted.clear()
        return found

    def run(self, count: int, duration_ms: float, *, start: int = 0) -> list[int]:
        """Send tokens, let all tasks come back; the sizes of the tasks."""
        self.dispatcher.release(tokens(count, start=start))
        sizes = self.sizes()
        for task in self.gateway.sent:
            task.succeed(duration_ms=duration_ms)
        self.gateway.sent.clear()
        self.take_back()
        return sizes


def test_a_call_carries_what_its_executor_needs() -> None:
    sending = Sending()
    sending.dispatcher.release(tokens(1))
    (task,) = sending.gateway.sent
    (call,) = task.calls
    assert (task.spec.epoch, task.spec.node_id, task.resources) == (3, "a", {"num_cpus": 1})
    assert (call.token_id, call.attempt, call.input, call.node_id) == ("t_a_0", 1, b'{"n":0}', "a")
    assert call.idempotency_key == f"{RUN_ID}/t_a_0"


def test_the_first_tasks_have_one_call_each_and_fill_every_slot_twice() -> None:
    sending = Sending()
    assert sending.dispatcher.room("a") == AHEAD * SLOTS
    sending.dispatcher.release(tokens(8))
    assert sending.sizes() == [1] * 8
    assert sending.dispatcher.room("a") == 0
    assert sending.dispatcher.in_flight == 8


def test_batches_of_short_calls_grow_up_to_a_bound() -> None:
    sending = Sending()
    sending.run(8, 0.01)
    assert sending.dispatcher.room("a") > AHEAD * SLOTS, "the window grows with the batch"
    sizes = [max(sending.run(10_000, 0.01, start=10_000 * i)) for i in range(1, 5)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == BATCH_MAX


def test_batches_of_long_calls_do_not_grow() -> None:
    sending = Sending()
    for i in range(4):
        assert sending.run(8, 80.0, start=8 * i) == [1] * 8


def test_a_few_tokens_are_spread_over_all_slots() -> None:
    sending = Sending()
    for i in range(3):
        sending.run(2000, 0.01, start=2000 * i)
    assert sending.run(8, 0.01, start=9000) == [2, 2, 2, 2]


def test_what_may_not_be_batched_never_is() -> None:
    sending = Sending(a=work(batch=False))
    for i in range(3):
        assert set(sending.run(100, 0.01, start=100 * i)) == {1}


def test_attempts_with_a_time_limit_do_not_wait_behind_others() -> None:
    sending = Sending(a=work(batch=False, timed=True))
    assert sending.dispatcher.room("a") == SLOTS


def test_nodes_with_the_same_work_share_a_lane_and_its_room() -> None:
    sending = Sending(a=work("a"), b=work("b"), c=work("c", lane="other"))
    sending.dispatcher.release([*tokens(3, "a"), *tokens(3, "b")])
    assert [sending.dispatcher.room(node) for node in "abc"] == [2, 2, 8]
    assert [call.node_id for task in sending.gateway.sent for call in task.calls] == ["a"] * 3 + ["b"] * 3


def test_a_token_that_is_to_run_alone_shares_no_task() -> None:
    sending = Sending()
    sending.run(2000, 0.01)
    sending.run(2000, 0.01, start=2000)
    sending.dispatcher.release([*tokens(40, start=9000), *tokens(2, start=9500, solo=True)])
    alone = [task for task in sending.gateway.sent if task.calls[0].token_id in {"t_a_9500", "t_a_9501"}]
    assert [len(task.calls) for task in alone] == [1, 1]
    assert max(sending.sizes()) > 1


def test_a_task_that_comes_back_frees_its_room() -> None:
    sending = Sending()
    sending.dispatcher.release(tokens(8))
    sending.gateway.sent[0].succeed(1)
    ((task, shared),) = sending.take_back()
    assert (list(task.tokens), shared) == (["t_a_0"], False)
    assert sending.dispatcher.in_flight == 7


def test_a_lost_task_names_its_tokens_and_whether_they_shared_it() -> None:
    sending = Sending()
    sending.run(2000, 0.01)
    sending.dispatcher.release(tokens(40, start=9000))
    sending.gateway.sent[0].lose()
    (message,) = sending.posted
    assert message.loss == LOST
    ((task, shared),) = sending.take_back()
    assert shared
    assert len(task.tokens) == len(sending.gateway.sent[0].calls)


def test_a_withdrawn_task_is_told_to_stop_once() -> None:
    sending = Sending()
    sending.dispatcher.release(tokens(2))
    sending.dispatcher.withdraw([("t_a_0", 1)])
    sending.dispatcher.withdraw([("t_a_0", 1)])
    assert sending.gateway.cancelled == [sending.gateway.sent[0]]
    assert sending.dispatcher.in_flight == 2, "it holds its slot until it has stopped"


@pytest.mark.parametrize("named", [("t_a_0", 2), ("t_unknown", 1)])
def test_another_attempt_is_not_withdrawn(named: tuple[str, int]) -> None:
    sending = Sending()
    sending.dispatcher.release(tokens(1))
    sending.dispatcher.withdraw([named])
    assert sending.gateway.cancelled == []


def test_a_shared_task_goes_on_for_those_that_are_still_wanted() -> None:
    sending = Sending()
    sending.run(2000, 0.01)
    sending.dispatcher.release(tokens(40, start=9000))
    task = sending.gateway.sent[0]
    names = [call.token_id for call in task.calls]
    assert len(names) > 1
    sending.dispatcher.withdraw([(name, 1) for name in names[:-1]])
    assert sending.gateway.cancelled == []
    task.lose()
    ((found, shared),) = sending.take_back()
    assert list(found.tokens) == names[-1:], "a withdrawn call that is lost concerns nobody"
    assert shared, "the one that is left was not alone, and is not charged"
    sending.dispatcher.withdraw([(names[-1], 1)])
    assert sending.gateway.cancelled == []


def test_a_shared_task_is_stopped_when_nobody_wants_it() -> None:
    sending = Sending()
    sending.run(2000, 0.01)
    sending.dispatcher.release(tokens(40, start=9000))
    task = sending.gateway.sent[0]
    sending.dispatcher.withdraw([(call.token_id, 1) for call in task.calls])
    assert sending.gateway.cancelled == [task]
