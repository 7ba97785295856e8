"""Executors, simulated: tasks that come back late, doubled, lost or never, and a ledger of what they did."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.behaviour import behave
from tests.simulation.chance import between, draw
from tests.simulation.violations import Crash, require
from wonder_ray.executor.protocol import ErrorInfo, Outcome
from wonder_ray.state import TokenStatus
from wonder_ray.values import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.simulation.faults import Fault
    from tests.simulation.sites import Process
    from wonder_ray.coordinator.ports import OnLoss, OnOutcomes
    from wonder_ray.executor.protocol import Call, TaskSpec

LOST = ErrorInfo("WorkerCrashedError", "the worker died", retryable=True, kind="lost")
OOM = ErrorInfo("OutOfMemoryError", "the worker was killed for its memory", retryable=True, kind="oom")
NODE_LOST = ErrorInfo("NodeDiedError", "the node is gone", retryable=True, kind="node")
STOPPED = ErrorInfo("TaskCancelledError", "the task was stopped", retryable=True, kind="cancelled")
SECOND_US = 1_000_000


class Ledger:
    """What executors did, outside of the system: (token, attempt, epoch) -> the outcomes that left an executor."""

    def __init__(self) -> None:
        self.sent: set[tuple[str, int, int]] = set()
        self.outcomes: dict[tuple[str, int, int], Outcome] = {}
        self.keys: dict[str, str] = {}
        """Token -> the idempotency key that its action was told."""


class SentTask(msgspec.Struct):
    """One task in flight."""

    name: tuple[str, int]
    """The first call's (token, attempt): what its chances are drawn by."""
    spec: Any
    calls: list[Any]
    on_outcomes: Any
    on_loss: Any
    is_back: bool = False
    is_stopped: bool = False


class SimulatedGateway:
    """Where one process sends its tasks."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.site.world
        self._flying: list[SentTask] = []

    def slots(self, resources: Mapping[str, Any]) -> int:
        """The size of the cluster."""
        return self._world.plan.slots

    def submit(
        self, spec: TaskSpec, calls: Sequence[Call], resources: Mapping[str, Any], on_outcomes: OnOutcomes, on_loss: OnLoss
    ) -> object:
        """Start one task."""
        world = self._world
        faults = world.strike("submit") + (world.strike("batch") if len(calls) > 1 else [])
        if any(fault.kind == "crash_in_release" for fault in faults):
            world.note("crash_in_release")
            raise Crash
        for call in calls:
            self._check_justified(spec, call)
        task = SentTask((calls[0].token_id, calls[0].attempt), spec, list(calls), on_outcomes, on_loss)
        self._flying.append(task)
        self._schedule(task, faults)
        return task

    def _check_justified(self, spec: TaskSpec, call: Call) -> None:
        """Invariant 1: the dispatch is on the disk; and what user code is told is stable."""
        site = self._process.site
        what = f"attempt {call.attempt} of token {call.token_id} (epoch {spec.epoch})"
        token = site.token_on_disk(call.token_id)
        is_open = token is not None and token.status is TokenStatus.DISPATCHED and token.attempt == call.attempt
        require(
            is_open and token is not None and token.epoch == spec.epoch, "I1", f"{what} was sent, and is not committed as open"
        )
        ledger = site.ledger
        key = (call.token_id, call.attempt, spec.epoch)
        require(key not in ledger.sent, "I7", f"{what} was sent twice")
        ledger.sent.add(key)
        known = ledger.keys.setdefault(call.token_id, call.idempotency_key)
        require(known == call.idempotency_key, "I7", f"{what}: its idempotency key changed")

    # --- coming back ---------------------------------------------------------------------------------------------

    def _schedule(self, task: SentTask, faults: list[Fault]) -> None:
        world, seed = self._world, self._world.plan.seed
        action, pace_ms = str(task.spec.action or task.spec.steps[0].action), world.plan.pace_ms
        attempts = [behave(seed, action, call.token_id, call.attempt, pace_ms) for call in task.calls]
        duration_us = sum(attempt.duration_us for attempt in attempts)
        outcomes = [
            Outcome(
                call.token_id, call.attempt, task.spec.epoch, None if attempt.error else encode(attempt.result),
                attempt.error, 0, attempt.duration_us / 1000, pid=7,
            )
            for call, attempt in zip(task.calls, attempts, strict=True)
        ]  # fmt: skip

        def come_back() -> None:
            if self._take(task):
                for outcome in outcomes:
                    self._process.site.ledger.outcomes[outcome.token_id, outcome.attempt, outcome.epoch] = outcome
                task.on_outcomes(outcomes)

        for fault in faults:
            come_back, duration_us = self._strike(fault, task, come_back, outcomes, duration_us)
        world.after(duration_us, come_back)

    def _strike(
        self, fault: Fault, task: SentTask, come_back: Callable[[], None], outcomes: list[Outcome], duration_us: int
    ) -> tuple[Callable[[], None], int]:
        """What a fault makes of a task's return."""
        world = self._world
        loss = {"executor_lost": LOST, "executor_oom": OOM, "batch_lost": LOST}.get(fault.kind)
        if loss is not None:
            world.note(fault.kind)
            return (lambda: self._lose(task, loss)), duration_us
        if fault.kind == "node_lost":
            world.note(fault.kind)
            for flying in list(self._flying):
                wait_us = between(world.plan.seed, 0, 3_000, "node", *flying.name)
                world.after(wait_us, functools.partial(self._lose, flying, NODE_LOST))
        elif fault.kind == "result_late":
            world.note(fault.kind)
            duration_us += between(world.plan.seed, 1, 4_000, "late", *task.name) * SECOND_US // 10
        elif fault.kind == "executor_hangs" and self._has_timeout(task):
            world.note(fault.kind)
            duration_us += 100 * SECOND_US
        elif fault.kind == "result_doubled":
            world.note(fault.kind)
            outcomes.extend(list(outcomes))
        return come_back, duration_us

    def _has_timeout(self, task: SentTask) -> bool:
        token = self._process.site.token_on_disk(task.calls[0].token_id)
        return token is not None and token.due_us is not None

    def _lose(self, task: SentTask, loss: ErrorInfo) -> None:
        if self._take(task):
            task.on_loss(loss)

    def _take(self, task: SentTask) -> bool:
        """A task comes back once."""
        if task.is_back:
            return False
        task.is_back = True
        self._flying.remove(task)
        return True

    def check_stopped(self) -> None:
        """What is still running and not wanted any more has been told to stop (R11)."""
        for task in self._flying:
            wanted = task.is_stopped or any(self._is_open(call) for call in task.calls)
            require(wanted, "R11", f"nothing of {task.calls} is open any more, and it was not told to stop")

    def _is_open(self, call: Call) -> bool:
        token = self._process.site.token_on_disk(call.token_id)
        return token is not None and token.status is TokenStatus.DISPATCHED and token.attempt == call.attempt

    def cancel(self, handle: object) -> None:
        """Tell a task to stop: some do at once, some later, some do not hear."""
        assert isinstance(handle, SentTask)
        handle.is_stopped = True
        for call in handle.calls:
            require(
                not self._is_open(call),
                "I1",
                f"attempt {call.attempt} of token {call.token_id} was stopped, and is committed as open",
            )
        chance = draw(self._world.plan.seed, "stop", *handle.name)
        if chance < 0.7:
            self._world.after(int(chance * SECOND_US), lambda: self._lose(handle, STOPPED))
