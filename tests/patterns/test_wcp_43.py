"""WCP-43, Explicit Termination: a case ends as soon as an end node is reached, and everything else in it is withdrawn.

Carried by a `terminate` node.
"""

from __future__ import annotations

from tests.cases.words import all_of, edge, node, workflow
from tests.patterns.harness import Event, Pattern, courses
from wonder_ray.definitions.models import GateNode, TerminateNode, TimerNode
from wonder_ray.planning import facts

PATTERN = Pattern(43, "Explicit Termination", "`terminate`: ends the run and withdraws the rest")
DEFINITION = workflow(
    ["a", node("b", input={"value": "'b'"}), TerminateNode(id="stop", output={"state.by": "'b'"}), "c", "c2"],
    edge("a", "b"),
    edge("b", "stop"),
    edge("a", "c"),
    edge("c", "c2"),
    output={"by": "state.by"},
)


def test_the_run_ends_when_the_end_node_is_reached_and_the_rest_is_withdrawn() -> None:
    withdrawn = set()
    for run in courses(DEFINITION, late=True, batched=True):
        before = run.moves[: run.moves.index("b")]
        assert run.status == "completed"
        assert run.output == {"by": "b"}
        assert run.completed["c"] == int("c" in before)
        assert run.completed["c2"] == int("c2" in before)
        assert run.rows[-1]["event_type"] == "workflow.completed"
        withdrawn.update(run.cancelled)
    assert withdrawn == {"c", "c2"}


def test_gates_timers_and_groups_are_withdrawn_as_well() -> None:
    definition = workflow(
        ["a", "b", TerminateNode(id="stop"), GateNode(id="ask"), TimerNode(id="pause", duration_s=3600), "each", "join"],
        edge("a", "b"),
        edge("b", "stop"),
        edge("a", "ask"),
        edge("a", "pause"),
        edge("a", "each", spawn_count=2, group="g"),
        edge("each", "join", join=all_of("g")),
    )
    answer = Event("answer", facts.AnswerGate(gate="ask", answer=1), when=lambda run: "a" in run.moves)
    for run in courses(definition, events=[answer], late=True, most=600):
        before = run.moves[: run.moves.index("b")]
        assert run.status == "completed"
        assert run.completed["ask"] == int("answer" in before)
        assert run.completed["pause"] == int("time" in before)
        assert run.completed["each"] == before.count("each")


def test_an_end_within_a_branch_ends_the_whole_run() -> None:
    definition = workflow(
        ["a", "each", TerminateNode(id="stop"), "join"],
        edge("a", "each", spawn_count=3, group="g"),
        edge("each", "stop", when="index == 1"),
        edge("each", "join", priority=1, join=all_of("g")),
    )
    for run in courses(definition, late=True):
        assert run.status == "completed"
        assert run.starts("join") == []
        assert run.counts["stop"] == 1


def test_an_end_may_be_a_failure_with_an_error_of_its_own() -> None:
    definition = workflow(
        ["a", "b", TerminateNode(id="stop", status="failed", error_type="Refused", message="not today"), "c"],
        edge("a", "b"),
        edge("b", "stop"),
        edge("a", "c"),
    )
    for run in courses(definition, late=True):
        assert run.status == "failed"
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("Refused", "not today")


def test_of_two_ends_the_first_to_be_reached_ends_the_run() -> None:
    definition = workflow(
        ["a", "b", "c", TerminateNode(id="good"), TerminateNode(id="bad", status="failed", error_type="Bad")],
        edge("a", "b"),
        edge("a", "c"),
        edge("b", "good"),
        edge("c", "bad"),
    )
    for run in courses(definition, batched=True, late=True):
        first = next(move for move in run.moves if move in {"b", "c"})
        assert run.status == ("completed" if first == "b" else "failed")
