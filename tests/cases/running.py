"""Runs a behaviour case on the core, and says whether it came out as it must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.core import CoreRun

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tests.cases.definitions import Case
    from wonder_ray.state import Token


def run_in_time(case: Case, **how: Any) -> CoreRun:
    """The case, its results coming back in the order that its delays make."""

    def duration(token: Token) -> float:
        return case.seconds.get(token.node_id, 0.001)

    return CoreRun(case.definition, case.actions, durations=duration, **how).run(case.input)


def check(case: Case, run: CoreRun, *, in_time: bool = True) -> None:
    """Raise unless the run is what the case demands; with `in_time`, also in what depends on its delays."""
    free = () if in_time else case.racing
    assert run.status == case.status, run.error
    assert _counts(run.completed, free) == _counts(case.completed, free)
    assert _counts(run.failed_attempts, free) == _counts(case.failed_attempts, free)
    if case.definition.output and case.status == "completed":
        assert run.output == case.output
    if case.error_type is not None:
        assert run.error is not None
        assert run.error.type == case.error_type
        assert (case.error_message or "") in run.error.message
    for earlier, later in case.before if in_time else ():
        assert max(run.positions("token.completed", earlier)) < min(run.positions("task.dispatched", later))


def _counts(counts: Mapping[str, int], free: Collection[str]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count and name not in free}
