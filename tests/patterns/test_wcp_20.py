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
    leaf = workflow("x y", edge("x", "y"), name="leaf")
    middle = workflow(["m", SubworkflowNode(id="leaf", workflow="leaf")], edge("m", "leaf"), name="middle")
    top = workflow(
        ["a", SubworkflowNode(id="middle", workflow="middle"), "b", "c"],
        edge("a", "middle"),
        edge("a", "b"),
        edge("middle", "c"),
        name="top",
    )
    depths = set()
    for run in courses(top, events=[CANCEL], workflows=[middle, leaf], late=True):
        runs = everyone(run)
        ended = run.status == "completed" or run.refusals
        assert "cancel" in run.moves or ended
        assert all(each.status == ("completed" if run.status == "completed" else each.status) for each in runs)
        if run.status != "completed":
            assert run.status == "cancelled"
            assert all(each.status in {"cancelled", "completed"} for each in runs)
            assert run.starts("c") == [] or run.moves.index("cancel") > run.moves.index("child ends")
            depths.add(len(runs))
    assert depths == {1, 2, 3}
