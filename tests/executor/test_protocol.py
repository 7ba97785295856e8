from __future__ import annotations

from wonder_ray.executor.protocol import (
    ActionRef,
    Call,
    ErrorInfo,
    Outcome,
    StepSpec,
    TaskSpec,
    decode_outcomes,
    decode_task,
    encode_outcomes,
    encode_task,
)


def test_tasks_travel_unchanged() -> None:
    step = StepSpec("one", ActionRef("act", "flow:act"), {"n": "input.n"}, {"output.n": "result"}, "true", "retry", 3)
    spec = TaskSpec(
        run_id="r", workflow_name="w", node_id="n", epoch=2, steps=[step], bundle="0" * 64, storage="/s", call="single"
    )
    calls = [Call("t", 1, "r/t", b'{"n":1}'), Call("u", 2, "r/u", b"\xff")]
    assert decode_task(encode_task(spec, calls)) == (spec, calls)


def test_outcomes_travel_unchanged() -> None:
    error = ErrorInfo("ValueError", "bad", retryable=True, kind="user", stack="...")
    outcomes = [
        Outcome("t", 1, 2, b"null", None, started_us=5, duration_ms=1.5, tokens=3, cost_usd=0.1, pid=9),
        Outcome("u", 1, 2, None, error, started_us=5, duration_ms=1.5),
    ]
    assert decode_outcomes(encode_outcomes(outcomes)) == outcomes
