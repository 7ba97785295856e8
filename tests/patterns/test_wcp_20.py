"""WCP-20, Cancel Case: the whole case is stopped: all its work is withdrawn, that of its children included.

Carried by the cancellation of a run, which reaches tasks, groups and children.
"""

from __future__ import annotations

from tests.cases.words import all_of, edge, workflow
from tests.patterns.harness import Course, Event, Pattern, courses
from wonder_ray.definitions.models import SubworkflowNode
from wonder_ray.planning import facts

PATTERN = Pattern(20, "Cancel Case", "cancelling the run reaches tasks, groups and child runs")
DEFINITION = workflow(
    "a b each inner c join end",
    edge("a", "b", group="g"),
    edge("a", "c", group="g"),
    edge("b", "each", spawn_count=2, group="instances"),
    edge("each", "inner", join=all_of("instances")),
    edge("inner", "join", join=all_of("g")),
    edge("c", "join", join=all_of("g")),
    edge("join", "end"),
)
TASKS = 8
LEAF = workflow("x y", edge("x", "y"), name="leaf")
MIDDLE = workflow(["m", SubworkflowNode(id="leaf", workflow="leaf")], edge("m", "leaf"), name="middle")
TOP = workflow(
    ["a", SubworkflowNode(id="middle", workflow="middle"), "b", "c"],
    edge("a", "middle"),
    edge("a", "b"),
    edge("middle", "c"),
    name="top",
)
CANCEL = Event("cancel", facts.CancelRun(reason="not wanted any more"))


def test_at_any_moment_everything_is_withdrawn_at_once_and_nothing_starts_any_more() -> None:
    withdrawn = set()
    for run in courses(DEFINITION, events=[CANCEL], late=True):
        if "cancel" not in run.moves:
            assert run.status == "completed", "it came too late"
            continue
        before = run.moves[: run.moves.index("cancel")]
        assert run.status == "cancelled"
        assert sum(run.completed.values()) == len(before), "what had completed stays, and no late result counts"
        assert run.rows[-1]["event_type"] == "workflow.cancelled"
        assert {token.status for token in run.tokens()} <= {"completed", "cancelled"}
        withdrawn.update(run.cancelled)
    assert withdrawn == {"a", "b", "each", "inner", "c", "join", "end"}


def test_a_result_of_the_same_moment_counts_if_it_came_first() -> None:
    met: set[str] = set()
    for run in courses(DEFINITION, events=[CANCEL], batched=True, crashes=False):
        if "cancel" in run.moves:
            at = run.moves.index("cancel")
            assert run.status == ("completed" if at == TASKS else "cancelled")
            assert sum(run.completed.values()) == at
            met.update(min(names - {"cancel"}) for names in run.meetings if "cancel" in names)
    assert met == {"a", "b", "each", "inner", "c", "join", "end"}


def everyone(run: Course) -> list[Course]:
    """A run and all that are below it."""
    return [run, *(below for child in run.family.values() for below in everyone(child))]


def test_child_runs_are_stopped_and_the_end_waits_for_theirs() -> None:
    depths = set()
    for run in courses(TOP, events=[CANCEL], workflows=[MIDDLE, LEAF], late=True):
        cancelled = "cancel" in run.moves
        before = run.moves[: run.moves.index("cancel")] if cancelled else run.moves
        assert run.status == ("cancelled" if cancelled else "completed")
        assert {each.status for each in everyone(run)} <= {run.status, "completed"}
        assert sum(run.completed.values()) == sum(move in {"a", "b", "c", "child ends"} for move in before)
        depths.add((cancelled, len(everyone(run))))
    assert depths == {(True, 1), (True, 2), (True, 3), (False, 3)}
