from __future__ import annotations

import asyncio
import functools
import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from wonder_ray.clock import SimulatedClock
from wonder_ray.errors import ActionError, CodeBundleError, PayloadError
from wonder_ray.executor.context import current
from wonder_ray.executor.protocol import ActionRef, Call, Outcome, TaskSpec
from wonder_ray.executor.runner import run_calls
from wonder_ray.logs.client import LogClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wonder_ray.logs.record import LogLine


class Functions:
    """A loader that knows one function."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def resolve(self, bundle: str | None, *, target: str | None = None, name: str = "") -> Any:
        return self.fn


def spec_of(**changes: Any) -> TaskSpec:
    return TaskSpec(
        **{
            "run_id": "run_1",
            "workflow_name": "flow",
            "node_id": "work",
            "epoch": 3,
            "action": ActionRef("act", "flow:act"),
            "storage": "",
            "workspace_id": "team",
            "project_id": "search",
            **changes,
        }
    )


def run(fn: Callable[..., Any], *inputs: Any, log: LogClient | None = None, **changes: Any) -> list[Outcome]:
    calls = [Call(f"t_{index}", 1, f"run_1/t_{index}", json.dumps(value).encode()) for index, value in enumerate(inputs)]
    return run_calls(spec_of(**changes), calls, loader=Functions(fn), log=log)


def results(outcomes: list[Outcome]) -> list[Any]:
    return [outcome.error or json.loads(outcome.result or b"") for outcome in outcomes]


def error_of(fn: Callable[..., Any], value: Any = None, **changes: Any) -> Any:
    (outcome,) = run(fn, {} if value is None else value, **changes)
    assert outcome.result is None
    return outcome.error


@pytest.fixture
def lines() -> Iterator[tuple[LogClient, list[LogLine]]]:
    written: list[LogLine] = []
    client = LogClient(written.extend, "executor")
    yield client, written
    client.close()


def test_every_call_has_its_outcome_in_order() -> None:
    outcomes = run(lambda n: n * n, {"n": 2}, {"n": 3})
    assert results(outcomes) == [4, 9]
    assert [(outcome.token_id, outcome.attempt, outcome.epoch) for outcome in outcomes] == [("t_0", 1, 3), ("t_1", 1, 3)]


def test_a_single_value_is_the_only_argument() -> None:
    assert results(run(lambda item: [item], "x", {"a": 1}, call="single")) == [["x"], [{"a": 1}]]


def test_one_bad_call_costs_no_other_its_result() -> None:
    def act(n: int) -> int:
        if n == 1:
            raise ValueError("one is bad")
        return n

    outcomes = run(act, {"n": 0}, {"n": 1}, {"n": 2})
    assert results(outcomes[::2]) == [0, 2]
    error = outcomes[1].error
    assert error is not None
    assert (error.type, error.message, error.retryable, error.kind) == ("ValueError", "one is bad", True, "user")
    assert error.stack is not None
    assert error.stack.splitlines()[1].endswith("in act")  # no frames of ours


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("mine")])
@pytest.mark.parametrize("is_async", [False, True])
def test_user_code_cannot_end_the_task(raised: BaseException, is_async: bool) -> None:
    def act(n: int) -> int:
        if n:
            raise raised
        return n

    async def act_async(n: int) -> int:
        return act(n)

    outcomes = run(act_async if is_async else act, {"n": 1}, {"n": 0})
    assert outcomes[0].error is not None
    assert outcomes[0].error.type == type(raised).__name__
    assert outcomes[1].result == b"0"


def test_a_cancelled_task_stops_as_a_whole() -> None:
    def act() -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_calls(spec_of(), [Call("t", 1, "k", b"{}")], loader=Functions(act), interrupted=lambda: True)


def test_a_worker_that_is_told_to_go_costs_no_attempt() -> None:
    """Ray turns a SIGTERM (`ray stop`, a pod's end) into a SystemExit that it marks: the task is lost, not failed by its user."""
    leaving = SystemExit(1)
    leaving.ray_terminate_msg = "The process receives a SIGTERM."  # type: ignore[attr-defined] # as Ray marks its own

    def act() -> NoReturn:
        raise leaving

    with pytest.raises(SystemExit):
        run_calls(spec_of(), [Call("t", 1, "k", b"{}")], loader=Functions(act))


def test_an_action_error_names_its_type_and_whether_to_try_again() -> None:
    def act() -> NoReturn:
        raise ActionError("RateLimited", "429", retryable=False)

    error = error_of(act)
    assert (error.type, error.message, error.retryable) == ("RateLimited", "429", False)


def test_an_exception_that_cannot_be_shown_is_still_a_failure() -> None:
    class Nasty(Exception):  # noqa: N818 - named for the test
        def __str__(self) -> str:
            raise RuntimeError

    def act() -> NoReturn:
        raise Nasty

    error = error_of(act)
    assert error.type == "Nasty"
    assert "whose __str__ raised" in error.message


def test_long_messages_and_lone_surrogates_are_made_to_fit() -> None:
    def act() -> NoReturn:
        raise ValueError("\ud800" + "x" * 100_000)

    error = error_of(act)
    assert len(error.message) < 5_000
    assert error.message.startswith("\\ud800x")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"m": 1}, "missing a required argument: 'n'"),
        ({"n": 1, "o": 2}, "unexpected keyword argument 'o'"),
        ([1], "takes keyword arguments"),
    ],
)
def test_an_input_that_does_not_fit_is_not_tried_again(value: Any, said: str) -> None:
    error = error_of(lambda n: n, value)
    assert (error.type, error.retryable, error.kind) == ("InputError", False, "user")
    assert said in error.message


def test_a_type_error_of_the_users_own_is_the_users() -> None:
    error = error_of(lambda n: n + "x", {"n": 1})
    assert (error.type, error.retryable) == ("TypeError", True)


def test_an_input_that_is_no_json_is_one_failure() -> None:
    (outcome,) = run_calls(spec_of(), [Call("t", 1, "k", b"{")], loader=Functions(lambda: 1))
    assert outcome.error is not None
    assert outcome.error.type == "InputError"


def test_a_result_that_is_no_json_names_node_type_and_place() -> None:
    error = error_of(lambda: {"a": [1, {2}]})
    assert (error.type, error.retryable, error.kind) == ("PayloadError", False, "result")
    assert "node 'work'" in error.message
    assert "set at $.a[1]" in error.message


def test_a_result_over_the_limit_names_node_size_and_limit() -> None:
    error = error_of(lambda: "x" * 100, result_bytes_max=50)
    assert (error.type, error.retryable, error.kind) == ("PayloadError", False, "result")
    assert "node 'work': the result has 102 bytes" in error.message
    assert "limit is 50" in error.message


def test_a_payload_error_that_the_user_raises_is_the_users() -> None:
    def act() -> NoReturn:
        raise PayloadError("mine")

    assert error_of(act).kind == "user"


def test_code_that_does_not_load_fails_every_call() -> None:
    class Broken:
        def resolve(self, bundle: str | None, *, target: str | None = None, name: str = "") -> Any:
            raise CodeBundleError("no such module")

    calls = [Call(f"t_{n}", 1, "k", b"{}") for n in range(3)]
    outcomes = run_calls(spec_of(), calls, loader=Broken(), clock=SimulatedClock())
    assert [(outcome.error.kind, outcome.error.retryable) for outcome in outcomes if outcome.error] == [("code", False)] * 3
    assert {outcome.started_us for outcome in outcomes} == {SimulatedClock().now_us()}


def test_async_calls_run_at_the_same_time_and_bounded() -> None:
    running, peak = 0, 0

    async def act() -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        return peak

    calls = [Call(f"t_{n}", 1, "k", b"{}") for n in range(20)]
    assert all(outcome.error is None for outcome in run_calls(spec_of(), calls, loader=Functions(act), async_calls_max=7))
    assert peak == 7


def test_async_calls_can_wait_for_each_other() -> None:
    meeting: list[asyncio.Event] = []

    async def act(n: int) -> int:
        if not meeting:
            meeting.append(asyncio.Event())
        if n == 2:
            meeting[0].set()
        await meeting[0].wait()
        return n

    assert results(run(act, {"n": 0}, {"n": 1}, {"n": 2})) == [0, 1, 2]


def test_a_task_of_the_users_own_that_exits_ends_its_loop_only() -> None:
    async def leave() -> None:
        raise SystemExit(1)

    async def act(n: int) -> int:
        if n == 1:
            task = asyncio.create_task(leave())
            await task
        return n

    first, second, third = run(act, {"n": 0}, {"n": 1}, {"n": 2})
    assert first.result == b"0"
    assert second.error is not None
    assert third.error is None or third.error.type == "SystemExit"


def test_an_async_action_that_cancels_itself_fails_alone() -> None:
    async def act(n: int) -> int:
        if n == 0 and (task := asyncio.current_task()) is not None:
            task.cancel()
        await asyncio.sleep(0)
        return n

    first, second = run(act, {"n": 0}, {"n": 1})
    assert first.error is not None
    assert first.error.type == "CancelledError"
    assert second.result == b"1"


def test_a_decorated_async_function_is_async_and_a_hidden_one_still_works() -> None:
    async def act(n: int) -> int:
        await asyncio.sleep(0)
        return n

    @functools.wraps(act)
    def wrapped(n: int) -> Any:
        return act(n)

    assert results(run(wrapped, {"n": 1}, {"n": 2})) == [1, 2]
    assert results(run(lambda n: act(n), {"n": 1}, {"n": 2})) == [1, 2]  # noqa: PLW0108 - hides that act is async


def test_sync_actions_may_use_an_event_loop_of_their_own() -> None:
    async def inner() -> int:
        return 5

    assert results(run(lambda: asyncio.run(inner()), {})) == [5]


@pytest.mark.parametrize("is_async", [False, True])
def test_actions_know_their_context(is_async: bool) -> None:
    def act(n: int) -> list[Any]:
        context = current()
        return [context.run_id, context.node_id, context.token_id, context.attempt, context.epoch, context.idempotency_key, n]

    async def act_async(n: int) -> list[Any]:
        await asyncio.sleep(0)
        return act(n)

    outcomes = run(act_async if is_async else act, {"n": 10}, {"n": 20})
    assert results(outcomes) == [["run_1", "work", f"t_{i}", 1, 3, f"run_1/t_{i}", n] for i, n in enumerate((10, 20))]


def test_receipt_failures_and_output_are_logged_and_marked(lines: tuple[LogClient, list[LogLine]]) -> None:
    def act(n: int) -> int:
        print("printed", n)  # noqa: T201 - what is captured
        logging.getLogger("mine").warning("logged %s", n)
        return 1 // n

    client, written = lines
    run(act, {"n": 1}, {"n": 0}, log=client)
    assert client.flush()
    assert {(line.workspace_id, line.project_id) for line in written} == {("team", "search")}
    seen = [(line.event_type, line.level, line.token_id, line.attempt, line.trace_id, line.node_id) for line in written]
    assert seen[0] == ("task_received", "debug", None, None, "run_1", "work")
    assert ("stdout", "info", "t_0", 1, "run_1", "work") in seen
    assert ("log", "warning", "t_1", 1, "run_1", "work") in seen
    (failure,) = [line for line in written if line.event_type == "action_failed"]
    assert (failure.level, failure.service, failure.token_id, failure.trace_id) == ("error", "executor", "t_1", "run_1")
    assert failure.error_stack is not None
    assert "ZeroDivisionError" in failure.error_stack


def test_code_that_does_not_load_is_one_line(lines: tuple[LogClient, list[LogLine]]) -> None:
    class Broken:
        def resolve(self, bundle: str | None, *, target: str | None = None, name: str = "") -> Any:
            raise CodeBundleError("no such module")

    client, written = lines
    run_calls(spec_of(), [Call(f"t_{n}", 1, "k", b"{}") for n in range(3)], loader=Broken(), log=client)
    assert client.flush()
    assert [line.event_type for line in written] == ["task_received", "action_failed"]


def test_the_runner_imports_nothing_heavy() -> None:
    code = (
        "import sys, wonder_ray.executor.runner, wonder_ray.executor.registry\n"
        "import wonder_ray.bundles.loader, wonder_ray.logs.capture\n"
        "heavy = {'ray', 'pydantic', 'sqlmodel', 'sqlalchemy', 'pyarrow', 'numpy', 'apsw', 'cel_expr_python', 'cloudpickle'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert printed.stdout.strip() == "[]"
