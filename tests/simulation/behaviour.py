"""What simulated actions do: how long an attempt takes and what comes of it, by seed, token and attempt.

The action of a node names its behaviour: `sim:number`, `sim:flaky`, ... An `idempotency_key` would tell an action its token, so
that every attempt of one token gives the same result: so it is here, except for failures, which differ by attempt.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tests.simulation.chance import between, draw
from wonder_ray.executor.protocol import ErrorInfo

PREFIX: Final = "sim:"
MS: Final = 1_000
FAIL_SHARE: Final = MappingProxyType({"flaky": 0.4, "shaky": 0.15, "broken": 1.0, "fatal": 0.5})
"""Behaviour -> the share of attempts that fail."""
RESULTS: Final = ("number", "list", "object", "mixed", "text")
BEHAVIOURS: Final = (*RESULTS, *FAIL_SHARE, "slow")
ERROR_TYPES: Final = ("Overload", "BadData")


class Attempt(NamedTuple):
    """What one attempt comes to."""

    duration_us: int
    result: Any
    error: ErrorInfo | None


def behave(seed: int, action: str, token_id: str, attempt: int, pace_ms: int) -> Attempt:
    """What an attempt of a token comes to; most take up to `pace_ms`."""
    kind = action.removeprefix(PREFIX)
    duration_us = between(seed, 1, pace_ms * MS, "duration", token_id, attempt)
    if kind == "slow":
        duration_us = between(seed, 1, 12_000, "slow", token_id, attempt) * MS
    if draw(seed, "failure", token_id, attempt) < FAIL_SHARE.get(kind, 0.0):
        error_type = ERROR_TYPES[between(seed, 0, 1, "error", token_id, attempt)]
        return Attempt(duration_us, None, ErrorInfo(error_type, f"{kind} attempt {attempt}", retryable=kind != "fatal"))
    return Attempt(duration_us, _result(seed, kind, token_id), None)


def _result(seed: int, kind: str, token_id: str) -> Any:
    number = between(seed, 0, 3, "result", token_id)
    if kind == "mixed":
        kind = RESULTS[between(seed, 0, 2, "mixed", token_id)]
    match kind:
        case "list":
            return [between(seed, 0, 9, "element", token_id, i) for i in range(number)]
        case "object":
            return {f"k{number}": between(seed, 0, 9, "value", token_id), "n": number}
        case "text":
            return f"text {number}"
        case _:
            return number
