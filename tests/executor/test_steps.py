from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Literal

import pytest

from wonder_ray.errors import ActionError
from wonder_ray.executor.context import current, report_usage
from wonder_ray.executor.protocol import ActionRef, Call, Outcome, StepSpec, TaskSpec
from wonder_ray.executor.runner import run_calls
from wonder_ray.logs.client import LogClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.logs.record import LogLine


class Functions:
    """A loader of named functions."""

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        self.functions = functions

    def resolve(self, bundle: str | None, *, target: str | None = None, name: str = "") -> Any:
        return self.functions[name]


def step(
    name: str,
    input: dict[str, str] | None = None,  # noqa: A002 - the field's name
    output: dict[str, str] | None = None,
    when: str | None = None,
    on_failure: Literal["abort", "retry", "continue"] = "abort",
    max_attempts: int = 1,
) -> StepSpec:
    return StepSpec(name, ActionRef(name, f"flow:{name}"), input or {}, output or {}, when, on_failure, max_attempts)


def run(
    steps: list[StepSpec], functions: dict[str, Callable[..., Any]], *inputs: Any, log: LogClient | None = None
) -> list[Outcome]:
    spec = TaskSpec(run_id="r", workflow_name="w", node_id="node", epoch=1, steps=steps, storage="")
    calls = [Call(f"t_{n}", 1, f"r/t_{n}", json.dumps(value).encode()) for n, value in enumerate(inputs)]
    return run_calls(spec, calls, loader=Functions(functions), log=log)


def value_of(outcome: Outcome) -> Any:
    assert outcome.error is None, outcome.error
    return json.loads(outcome.result or b"")


def test_steps_share_state_and_the_output_is_the_result() -> None:
    steps = [
        step("double", {"n": "input.n"}, {"state.doubled": "result"}),
        step("label", {"n": "state.doubled"}, {"output.text": "result", "output.nested.n": "state.doubled"}),
    ]
    functions = {"double": lambda n: 2 * n, "label": lambda n: f"is {n}"}
    outcomes = run(steps, functions, {"n": 1}, {"n": 5})
    assert [value_of(outcome) for outcome in outcomes] == [
        {"text": "is 2", "nested": {"n": 2}},
        {"text": "is 10", "nested": {"n": 10}},
    ]


def test_a_step_whose_condition_is_false_is_left_out() -> None:
    steps = [step("mark", {}, {"output.marked": "result"}, when="input.n > 1")]
    assert [value_of(outcome) for outcome in run(steps, {"mark": lambda: True}, {"n": 1}, {"n": 2})] == [{}, {"marked": True}]


class Flaky:
    """Fails a number of times, then answers."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def act(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def test_abort_fails_the_node_and_later_steps_do_not_run() -> None:
    flaky, later = Flaky(1, ValueError("bad")), Flaky(0, ValueError())
    (outcome,) = run([step("first"), step("second")], {"first": flaky.act, "second": later.act}, {})
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "bad")
    assert later.calls == 0


@pytest.mark.parametrize(("failures", "succeeds"), [(2, True), (3, False)])
def test_retry_tries_again_up_to_its_attempts(failures: int, succeeds: bool) -> None:
    flaky = Flaky(failures, ValueError("bad"))
    (outcome,) = run([step("try", {}, {"output.got": "result"}, on_failure="retry", max_attempts=3)], {"try": flaky.act}, {})
    assert (outcome.error is None) == succeeds
    assert flaky.calls == 3


def test_what_must_not_be_retried_is_not() -> None:
    flaky = Flaky(1, ActionError("Final", "no", retryable=False))
    (outcome,) = run([step("try", on_failure="retry", max_attempts=3)], {"try": flaky.act}, {})
    assert outcome.error is not None
    assert outcome.error.type == "Final"
    assert flaky.calls == 1


def test_continue_goes_on_and_says_so_in_the_log() -> None:
    written: list[LogLine] = []
    log = LogClient(written.extend, "executor")
    steps = [step("bad", {}, {"state.x": "result"}, on_failure="continue"), step("good", {}, {"output.x": "has(state.x)"})]
    (outcome,) = run(steps, {"bad": Flaky(1, ValueError("oh")).act, "good": lambda: None}, {}, log=log)
    log.close()
    assert value_of(outcome) == {"x": False}
    (line,) = [line for line in written if line.event_type == "step_failed"]
    assert "step 'bad'" in line.message
    assert line.error_stack is not None


def test_a_failing_output_mapping_writes_nothing() -> None:
    steps = [
        step("one", {}, {"state.a": "result", "state.b": "result.missing"}, on_failure="continue"),
        step("two", {}, {"output.a": "has(state.a)"}),
    ]
    (outcome,) = run(steps, {"one": dict, "two": lambda: None}, {})
    assert value_of(outcome) == {"a": False}


def test_expressions_that_do_not_compile_fail_every_call() -> None:
    outcomes = run([step("one", {"n": "input.("})], {"one": lambda n: n}, {}, {})
    assert [outcome.error.type for outcome in outcomes if outcome.error] == ["ExpressionError"] * 2
    assert not any(outcome.error.retryable for outcome in outcomes if outcome.error)


def test_a_failing_expression_is_an_error_of_the_node() -> None:
    (outcome,) = run([step("one", {"n": "state.missing"})], {"one": lambda n: n}, {})
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.retryable) == ("ExpressionError", False)


def test_each_step_has_its_own_idempotency_key_and_usage_adds_up() -> None:
    def act() -> str:
        report_usage(tokens=2)
        return current().idempotency_key

    steps = [step("one", {}, {"output.one": "result"}), step("two", {}, {"output.two": "result"})]
    (outcome,) = run(steps, {"one": act, "two": act}, {})
    assert value_of(outcome) == {"one": "r/t_0/one", "two": "r/t_0/two"}
    assert outcome.tokens == 4


def test_async_steps_of_several_calls_run_at_the_same_time() -> None:
    arrived: list[int] = []
    everybody: list[asyncio.Event] = []

    async def meet(n: int) -> str:
        if not everybody:
            everybody.append(asyncio.Event())
        arrived.append(n)
        if len(arrived) == 3:
            everybody[0].set()
        await everybody[0].wait()
        return current().token_id

    async def again(name: str) -> str:
        await asyncio.sleep(0)
        return name + "!"

    steps = [step("meet", {"n": "input.n"}, {"state.id": "result"}), step("again", {"name": "state.id"}, {"output.id": "result"})]
    outcomes = run(steps, {"meet": meet, "again": again}, *({"n": n} for n in range(3)))
    assert [value_of(outcome) for outcome in outcomes] == [{"id": f"t_{n}!"} for n in range(3)]


def test_sync_and_async_steps_mix() -> None:
    async def fetch() -> int:
        await asyncio.sleep(0)
        return 1

    steps = [step("fetch", {}, {"state.n": "result"}), step("loop", {"n": "state.n"}, {"output.n": "result"})]
    (outcome,) = run(steps, {"fetch": fetch, "loop": lambda n: asyncio.run(asyncio.sleep(0, n + 1))}, {})
    assert value_of(outcome) == {"n": 2}
