"""From dispatched tokens to tasks: one lane per action and set of resources, its batches sized by measured duration.

A lane begins with tasks of one call. When its calls turn out short, batches grow (at most eightfold at a time) until one
takes about `TARGET_MS`, so that a result is not delayed by much more than that for its neighbours' sake. What is in flight
is bounded per lane: admission happens here, not in Ray's queue.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.executor.protocol import Call, ErrorInfo, Outcome, TaskSpec
from wonder_ray.values import encode_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wonder_ray.coordinator.ports import ExecutorGateway
    from wonder_ray.state import Token

TARGET_MS = 100.0
BATCH_MAX = 500
GROWTH = 8
AHEAD = 2
"""Batches per slot that may be in flight: one that runs, and one that waits so that the slot is never idle."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's tokens need to be run."""

    lane: str
    """Nodes with the same lane share tasks: same action, same resources."""
    spec: TaskSpec
    resources: dict[str, Any]
    batch: bool
    timed: bool = False
    """Whether attempts have a time limit: it runs from the dispatch, so none is sent to wait for its slot."""


class Task(msgspec.Struct, kw_only=True):
    """One task in flight."""

    lane: str
    tokens: dict[str, int]
    """Token -> attempt; withdrawn ones are taken out."""
    size: int
    handle: object = None


class Lane:
    """The measure of one kind of work."""

    def __init__(self, slots: int, *, batch_max: int, ahead: int = AHEAD) -> None:
        self.slots = slots
        self._ahead = ahead
        self.batch = 1
        self.in_flight = 0
        self._batch_max = batch_max
        self._mean_ms: float | None = None

    @property
    def window(self) -> int:
        """Calls that may be in flight."""
        return self._ahead * self.slots * self.batch

    def measure(self, durations_ms: Sequence[float]) -> None:
        """Learn from a finished batch."""
        mean = sum(durations_ms) / len(durations_ms)
        self._mean_ms = mean if self._mean_ms is None else 0.5 * self._mean_ms + 0.5 * mean
        fitting = TARGET_MS / max(self._mean_ms, 0.001)
        self.batch = max(1, min(int(fitting), self.batch * GROWTH, self._batch_max))


class Dispatcher:
    """Sends tokens out and keeps account of what is in flight.

    Example:
        `Dispatcher(work, gateway, post)`; after a commit `release(turn.dispatched)`; `room(node_id)` before the next plan.
    """

    def __init__(
        self,
        work: Mapping[str, Work],
        gateway: ExecutorGateway,
        post: Callable[[Finished], None],
        *,
        epoch: int,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self._work = work
        self._gateway = gateway
        self._post = post
        self._epoch = epoch
        self._batch_max = batch_max
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[int, Task] = {}
        self._task_of: dict[str, int] = {}
        """Token -> the task that runs its open attempt."""
        self._number = 0
        self.submitted = 0

    def room(self, node_id: str) -> int:
        """How many more calls of a node's lane may be in flight."""
        lane = self._lane(self._work[node_id])
        return lane.window - lane.in_flight

    def _lane(self, work: Work) -> Lane:
        lane = self._lanes.get(work.lane)
        if lane is None:
            batch_max = self._batch_max if work.batch else 1
            ahead = 1 if work.timed else AHEAD
            lane = self._lanes[work.lane] = Lane(self._gateway.slots(work.resources), batch_max=batch_max, ahead=ahead)
        return lane

    def release(self, tokens: Iterable[Token]) -> None:
        """Send tokens whose dispatch has been committed."""
        by_lane: dict[str, list[Token]] = {}
        for token in tokens:
            by_lane.setdefault(self._work[token.node_id].lane, []).append(token)
        for group in by_lane.values():
            work = self._work[group[0].node_id]
            lane = self._lane(work)
            lane.slots = self._gateway.slots(work.resources)  # the cluster may have grown
            together = [token for token in group if not token.solo]
            size = max(1, min(lane.batch, math.ceil(len(together) / lane.slots)))
            for start in range(0, len(together), size):
                self._submit(work, lane, together[start : start + size])
            for token in group:
                if token.solo:
                    self._submit(work, lane, [token])

    def _submit(self, work: Work, lane: Lane, tokens: list[Token]) -> None:
        self._number += 1
        number = self._number
        task = Task(lane=work.lane, tokens={token.id: token.attempt for token in tokens}, size=len(tokens))
        self._tasks[number] = task
        self._task_of.update(dict.fromkeys(task.tokens, number))
        lane.in_flight += len(tokens)
        self.submitted += 1
        spec = work.spec if work.spec.epoch == self._epoch else msgspec.structs.replace(work.spec, epoch=self._epoch)
        calls = [
            Call(token.id, token.attempt, f"{spec.run_id}/{token.id}", encode_trusted(token.input), token.node_id)
            for token in tokens
        ]
        task.handle = self._gateway.submit(
            spec,
            calls,
            work.resources,
            lambda outcomes: self._post(Finished(number=number, outcomes=outcomes)),
            lambda error: self._post(Finished(number=number, loss=error)),
        )

    def finished(self, message: Finished) -> tuple[Task, bool]:
        """Take a finished task off the account; the task, and whether its tokens shared it."""
        task = self._tasks.pop(message.number)
        lane = self._lanes[task.lane]
        lane.in_flight -= task.size
        for token_id in task.tokens:
            self._task_of.pop(token_id, None)
        if message.outcomes:
            lane.measure([outcome.duration_ms for outcome in message.outcomes])
        return task, task.size > 1

    def withdraw(self, tokens: Iterable[tuple[str, int]]) -> None:
        """Stop the tasks that have nothing left to do but withdrawn attempts; in a shared one the rest goes on."""
        for token_id, attempt in tokens:
            number = self._task_of.get(token_id)
            task = self._tasks.get(number) if number is not None else None
            if task is None or task.tokens.get(token_id) != attempt:
                continue
            del task.tokens[token_id], self._task_of[token_id]
            if not task.tokens:
                self._gateway.cancel(task.handle)

    @property
    def in_flight(self) -> int:
        """Calls in flight."""
        return sum(lane.in_flight for lane in self._lanes.values())


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A task has come back: with outcomes, or lost."""

    number: int
    outcomes: list[Outcome] | None = None
    loss: ErrorInfo | None = None
