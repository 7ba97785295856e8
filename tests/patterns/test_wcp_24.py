"""WCP-24, Persistent Trigger: a task waits for a signal from outside, which is kept until somebody takes it.

Carried by a `wait_signal` node (it retains by default) or a gate, which keeps an answer that comes early.
"""

from __future__ import annotations

from tests.cases.words import edge, workflow
from tests.patterns.harness import Event, Pattern, courses
from wonder_ray.definitions.models import GateNode, SignalNode
from wonder_ray.planning import facts

PATTERN = Pattern(24, "Persistent Trigger", "`wait_signal` or gate: what comes early is kept")
DEFINITION = workflow(
    ["a", SignalNode(id="go", output={"state.got": "result"}), "b"],
    edge("a", "go"),
    edge("go", "b"),
    output={"got": "state.got"},
)


def signal(number: int) -> Event:
    """A signal with a payload of its own."""
    return Event(f"signal {number}", facts.SignalRun(name="go", payload=number))


def test_a_signal_counts_whenever_it_comes() -> None:
    early = set()
    for run in courses(DEFINITION, events=[signal(1)], batched=True):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "go": 1, "b": 1}
        assert run.output == {"got": 1}
        early.add(run.moves.index("signal 1") < run.moves.index("a"))
    assert early == {True, False}


def test_each_signal_is_taken_once_in_the_order_in_which_they_came() -> None:
    definition = workflow(
        ["a", SignalNode(id="go", output={"state.got": "has(state.got) ? state.got + [result] : [result]"}), "b"],
        edge("a", "go"),
        edge("go", "b"),
        edge("b", "go", max_iterations=1),
        start=("a",),
        output={"got": "state.got"},
    )
    for run in courses(definition, events=[signal(1), signal(2), signal(3)]):
        came = [int(move.removeprefix("signal ")) for move in run.moves if move.startswith("signal")]
        if run.status == "failed":  # the loop's bound is used up, and nothing else follows b
            assert run.error is not None
            assert run.error.type == "LoopBoundExceeded"
        assert run.state.view("")["state"]["got"] == came[:2]
        assert run.completed["go"] == 2


def test_an_answer_that_comes_before_its_gate_opens_is_kept() -> None:
    definition = workflow(["a", GateNode(id="ask"), "b"], edge("a", "ask"), edge("ask", "b"))
    answer = Event("answer", facts.AnswerGate(gate="ask", answer="yes"))
    for run in courses(definition, events=[answer], batched=True):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "ask": 1, "b": 1}
        assert run.tokens("ask")[0].result == "yes"


def test_who_has_waited_longest_is_served_first() -> None:
    definition = workflow(
        ["a", "x", "y", SignalNode(id="p", signal="go"), SignalNode(id="q", signal="go")],
        edge("a", "x"),
        edge("x", "p"),
        edge("a", "y"),
        edge("y", "q"),
    )
    served = set()
    for run in courses(definition, events=[signal(1)]):
        first = "p" if run.moves.index("x") < run.moves.index("y") else "q"
        early = run.moves.index("signal 1") < max(run.moves.index("x"), run.moves.index("y"))
        assert run.status == "waiting"
        assert run.completed[first] == 1
        served.add((first, early))
    assert len(served) == 4
