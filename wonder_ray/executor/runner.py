"""Runs the calls of one task, and turns whatever happens into outcomes. Knows nothing of Ray, and decides nothing.

One bad call never costs the others their results: what user code raises, `SystemExit` and `KeyboardInterrupt` included, is the
outcome of its call. Only a cancelled task (`interrupted`) stops as a whole.

>>> import json
>>> from wonder_ray.executor.protocol import ActionRef
>>> spec = TaskSpec(
...     run_id="r", workflow_name="w", node_id="n", epoch=1, action=ActionRef("len", "builtins:len"), storage="", call="single"
... )
>>> from wonder_ray.bundles.loader import BundleLoader
>>> run_calls(spec, [Call("t", 1, "r/t", b"[1, 2]")], loader=BundleLoader("."))[0].result
b'2'
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Self

from wonder_ray.clock import Clock, SystemClock
from wonder_ray.errors import CodeBundleError, ExpressionError, InputError, PayloadError
from wonder_ray.executor.context import TaskContext, Usage, task_context
from wonder_ray.executor.failures import describe, describe_result
from wonder_ray.executor.protocol import Call, ErrorInfo, Outcome, StepSpec, TaskSpec
from wonder_ray.executor.results import encode_result
from wonder_ray.executor.secrets import Vault, opened
from wonder_ray.executor.work import ActionLoader, ActionWork, Work, drive, drive_async, load_function
from wonder_ray.logs.context import log_context
from wonder_ray.redaction import Redactor
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from wonder_ray.logs.client import LogClient
    from wonder_ray.logs.record import Level

ASYNC_CALLS_MAX = 100
"""How many async calls of one task run at the same time."""
_WAKE_S = 0.1


def run_calls(
    spec: TaskSpec,
    calls: Sequence[Call],
    *,
    loader: ActionLoader,
    log: LogClient | None = None,
    clock: Clock | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    async_calls_max: int = ASYNC_CALLS_MAX,
    vault: Vault | None = None,
) -> list[Outcome]:
    """Run every call: sync actions one after the other, async ones concurrently in one event loop.

    Args:
        spec: What the calls have in common.
        calls: At least one.
        loader: Where the functions come from.
        log: Where lines go: `task_received` once, `action_failed` for every failure, `task_interrupted` for a call that is
            stopped, and what user code prints and logs.
        clock: The time that outcomes carry.
        interrupted: Whether the task has been cancelled; then a `KeyboardInterrupt` ends it instead of failing one call.
        async_calls_max: How many async calls run at the same time.
        vault: Where the secrets of the run come from, and what hides them in all that is returned or logged.

    Returns:
        One outcome per call, in the order of the calls.
    """
    batch = _Batch(spec, log, clock or SystemClock(), interrupted, Redactor() if vault is None else vault.redactor)
    with opened(vault), _marked(spec):
        batch.write("debug", "task_received", f"node {spec.node_id!r}: {len(calls)} calls", calls=len(calls), bundle=spec.bundle)
        try:
            with batch.capturing():
                work = batch.load(loader)
        except (CodeBundleError, ExpressionError) as error:
            return batch.all_failed(calls, error)
        if work.is_async:
            return batch.run_all_async(work, calls, async_calls_max)
        return [batch.run(work, call) for call in calls]


def _marked(spec: TaskSpec) -> AbstractContextManager[Any]:
    return log_context(run_id=spec.run_id, node_id=spec.node_id, workspace_id=spec.workspace_id, project_id=spec.project_id)


class _Batch:
    def __init__(
        self, spec: TaskSpec, log: LogClient | None, clock: Clock, interrupted: Callable[[], bool], redactor: Redactor
    ) -> None:
        self.spec = spec
        self.redactor = redactor
        self._log = log
        self.clock = clock
        self._interrupted = interrupted

    def capturing(self) -> AbstractContextManager[Any]:
        """What user code prints and logs in the block becomes lines, too."""
        if self._log is None:
            return nullcontext()
        from wonder_ray.logs.capture import capture_output

        return capture_output(self._log.emit, hide=self.redactor.text)

    def load(self, loader: ActionLoader) -> Work:
        """The work of this task, its functions loaded."""
        spec = self.spec
        if spec.steps is not None:
            from wonder_ray.executor.steps import StepsWork  # the expression library is imported by those who need it

            return StepsWork(spec, loader, on_error=self._step_failed)
        assert spec.action is not None, "a task has an action or steps"
        return ActionWork(spec.action, load_function(loader, spec, spec.action), single=spec.call == "single")

    def run(self, work: Work, call: Call) -> Outcome:
        """One call, here and now."""
        with _Attempt(self, call) as attempt:
            attempt.finish(drive(work.program(attempt.input()), is_stop=self.is_stop))
        return attempt.outcome()

    def run_all_async(self, work: Work, calls: Sequence[Call], calls_max: int) -> list[Outcome]:
        """All calls in one event loop, a bounded number at a time."""
        outcomes: dict[int, Outcome] = {}
        try:
            asyncio.run(self._run_concurrently(work, calls, calls_max, outcomes))
        except BaseException as error:
            if self.is_stop(error):
                raise
            # A task that user code started has ended the loop (SystemExit does): the calls that were cut off have failed.
            cut_off = [index for index in range(len(calls)) if index not in outcomes]
            outcomes |= zip(cut_off, self.all_failed([calls[index] for index in cut_off], error), strict=True)
        return [outcomes[index] for index in range(len(calls))]

    async def _run_concurrently(self, work: Work, calls: Sequence[Call], calls_max: int, outcomes: dict[int, Outcome]) -> None:
        places = asyncio.Semaphore(calls_max)
        _stay_interruptible(asyncio.get_running_loop())

        async def one(index: int, call: Call) -> None:
            async with places:
                with _Attempt(self, call) as attempt:
                    attempt.finish(await drive_async(work.program(attempt.input()), is_stop=self.is_stop))
                outcomes[index] = attempt.outcome()

        await asyncio.gather(*(one(index, call) for index, call in enumerate(calls)))

    def is_stop(self, error: BaseException) -> bool:
        """Whether the task is to end as a whole, as opposed to user code that raised the like.

        It was cancelled; or Ray ends its worker (on SIGTERM, say), which it does by a SystemExit that it marks: the task is
        then lost, and nobody's fault.
        """
        if isinstance(error, SystemExit):
            return hasattr(error, "ray_terminate_msg")
        return isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)) and self._interrupted()

    def all_failed(self, calls: Sequence[Call], error: BaseException) -> list[Outcome]:
        """The same error for every call, one line in the log."""
        info = self.describe(error)
        self.write_failure(info, calls=len(calls))
        now_us = self.clock.now_us()
        return [
            Outcome(call.token_id, call.attempt, self.spec.epoch, None, info, started_us=now_us, duration_ms=0.0, pid=os.getpid())
            for call in calls
        ]

    def write(self, level: Level, event_type: str, message: str, **fields: Any) -> None:
        """One line, marked with what the innermost `log_context` says."""
        if self._log is not None:
            self._log.log(level, event_type, message, **fields)

    def write_failure(self, error: ErrorInfo, node_id: str | None = None, **fields: Any) -> None:
        """The line `action_failed`."""
        message = f"node {(node_id or self.spec.node_id)!r}: {error.type}: {error.message}"
        self.write(
            "error", "action_failed", message, error_stack=error.stack, kind=error.kind, retryable=error.retryable, **fields
        )

    def describe(self, error: BaseException) -> ErrorInfo:
        """The record of an exception, without secrets."""
        return describe(error, self.redactor.text)

    def _step_failed(self, step: StepSpec, attempt: int, error: BaseException) -> None:
        info = self.describe(error)
        message = f"node {self.spec.node_id!r}, step {step.name!r}, attempt {attempt}: {info.type}: {info.message}"
        self.write("warning", "step_failed", message, error_stack=info.stack, step=step.name, on_failure=step.on_failure)


def _stay_interruptible(loop: asyncio.AbstractEventLoop) -> None:
    """Wake the loop now and then: an interrupt that comes without a real signal, as Ray's cancel does, ends no `select`."""
    loop.call_later(_WAKE_S, _stay_interruptible, loop)


class _Attempt:
    """The bookkeeping around one call: context, time, usage, and what it ended with."""

    def __init__(self, batch: _Batch, call: Call) -> None:
        self._batch = batch
        self._call = call
        self._node_id = call.node_id or batch.spec.node_id
        self._usage = Usage()
        self._stack = ExitStack()
        self._result: bytes | None = None
        self._error: ErrorInfo | None = None
        self._started_us = batch.clock.now_us()
        self._started_s = time.perf_counter()
        self._duration_ms = 0.0

    def __enter__(self) -> Self:
        spec, call = self._batch.spec, self._call
        node_id = self._node_id
        context = TaskContext(spec.run_id, node_id, call.token_id, call.attempt, spec.epoch, call.idempotency_key)
        self._stack.enter_context(task_context(context, self._usage))
        self._stack.enter_context(log_context(node_id=node_id, token_id=call.token_id, attempt=call.attempt))
        self._stack.enter_context(self._batch.capturing())
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> bool:
        with self._stack:
            self._duration_ms = (time.perf_counter() - self._started_s) * 1000
            if error is not None and self._batch.is_stop(error):
                message = f"node {self._node_id!r}: stopped after {self._duration_ms:.0f} ms"
                self._batch.write("warning", "task_interrupted", message, duration_ms=self._duration_ms)
                return False
            if error is not None:
                self._error = self._batch.describe(error)
            if self._error is not None:
                self._batch.write_failure(self._error, self._node_id)
            return True

    def input(self) -> Any:
        """The decoded input."""
        try:
            return decode(self._call.input)
        except PayloadError as error:
            raise InputError(f"node {self._node_id!r}: the input is {error}") from None

    def finish(self, value: Any) -> None:
        """Take the result, or why it is none."""
        spec = self._batch.spec
        try:
            redactor = self._batch.redactor
            self._result = encode_result(value, node_id=self._node_id, bytes_max=spec.result_bytes_max, redactor=redactor)
        except PayloadError as error:
            self._error = describe_result(error, redactor.text)

    def outcome(self) -> Outcome:
        """What the coordinator is told."""
        return Outcome(
            token_id=self._call.token_id,
            attempt=self._call.attempt,
            epoch=self._batch.spec.epoch,
            result=self._result,
            error=self._error,
            started_us=self._started_us,
            duration_ms=self._duration_ms,
            tokens=self._usage.tokens,
            cost_usd=self._usage.cost_usd,
            pid=os.getpid(),
        )
