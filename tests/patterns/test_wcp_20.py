"""WCP-20, Cancel Case: the whole case is stopped: all its work is withdrawn, that of its children included.

Carried by the cancellation of a run, which reaches tasks, groups and children.
"""

from __future__ import annotations

from tests.cases.words import all_of, edge, workflow
from tests.patterns.harness import Event, Pattern, courses
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
