"""WCP-18, Milestone: a task may start only while another branch is in a given state: after one of its tasks, before the next.

Carried by a `guard`: a condition that is looked at again whenever the context changes. What has started is not stopped; a gate
that has opened and is not answered is withdrawn when the condition stops holding. When nothing is left that could make it hold,
the task fails with `GuardUnsatisfied`, which may be handled.
"""

from __future__ import annotations

from tests.cases.words import edge, node, workflow
from tests.patterns.harness import Course, Event, Pattern, courses
from wonder_ray.definitions.models import GateNode
from wonder_ray.planning import facts

PATTERN = Pattern(18, "Milestone", "`guard`, looked at whenever the context changes")
WHILE_OPEN = "has(state.open) && state.open"
OPEN, SHUT = {"state.open": "true"}, {"state.open": "false"}
DEFINITION = workflow(
    ["a", node("open", output=OPEN), node("shut", output=SHUT), "x", node("task", guard=WHILE_OPEN), "missed"],
    edge("a", "open"),
    edge("open", "shut"),
    edge("a", "x"),
    edge("x", "task"),
    edge("task", "missed", on="failed[GuardUnsatisfied]"),
    start=("a",),
)


def test_the_task_starts_while_the_milestone_holds_and_not_before_or_after() -> None:
    ways = set()
    for run in courses(DEFINITION):
        order = [move for move in run.moves if move in {"open", "shut", "x"}]
        in_time = order.index("x") < order.index("shut")
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", "open", "shut", "x", "task" if in_time else "missed"], 1)
        if in_time:
            assert run.ends("open")[0] < run.starts("task")[0] < run.ends("shut")[0]
        ways.add(tuple(order))
    assert len(ways) == 3


def test_the_task_is_not_stopped_when_the_milestone_passes_while_it_runs() -> None:
    overtaken = 0
    for run in courses(DEFINITION):
        overtaken += bool(run.completed["task"]) and run.ends("shut") < run.ends("task")
        assert run.cancelled == []
    assert overtaken


def test_a_milestone_that_passes_in_the_moment_in_which_the_task_becomes_ready_is_missed() -> None:
    met = 0
    for run in courses(DEFINITION, batched=True):
        x, shut = (run.turn_of_move[run.moves.index(move)] for move in ("x", "shut"))
        assert run.status == "completed"
        assert run.completed["task"] == int(x < shut)
        assert run.completed["missed"] == int(x >= shut)
        met += x == shut
    assert met


def test_a_task_that_nobody_can_allow_any_more_fails_the_run_where_nothing_handles_it() -> None:
    definition = workflow(["a", node("task", guard=WHILE_OPEN), node("b", output=SHUT)], edge("a", "task"), edge("a", "b"))
    for run in courses(definition):
        assert run.status == "failed"
        assert run.error is not None
        assert (run.error.type, run.error.node_id) == ("GuardUnsatisfied", "task")
        assert run.starts("task") == []


def test_a_milestone_may_be_reached_again() -> None:
    definition = workflow(
        [
            "a",
            node("open", output=OPEN),
            node("shut", output=SHUT),
            node("again", output=OPEN),
            "x",
            node("task", guard=WHILE_OPEN),
        ],
        edge("a", "open"),
        edge("open", "shut"),
        edge("shut", "again"),
        edge("a", "x"),
        edge("x", "task"),
    )
    between = 0
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", "open", "shut", "again", "x", "task"], 1)
        (begin,), (shut,), (again,) = run.starts("task"), run.ends("shut"), run.ends("again")
        assert run.ends("open")[0] < begin < shut or again < begin
        between += shut < run.ends("x")[0] < again
    assert between


def test_a_gate_is_withdrawn_when_the_milestone_passes_and_asks_again_when_it_is_reached_again() -> None:
    definition = workflow(
        [
            "a",
            node("open", output=OPEN),
            node("shut", output=SHUT),
            node("again", output=OPEN),
            GateNode(id="task", guard=WHILE_OPEN),
        ],
        edge("a", "open"),
        edge("open", "shut"),
        edge("shut", "again"),
        edge("a", "task"),
    )

    def asked(run: Course) -> bool:
        return any(token.status == "waiting_for_gate" for token in run.tokens("task"))

    answer = Event("answer", facts.AnswerGate(gate="task", answer="yes"), when=asked)
    times = set()
    for run in courses(definition, events=[answer]):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", "open", "shut", "again", "task"], 1)
        opened = len(run.events("gate.opened"))
        assert opened == 1 + (run.moves.index("shut") < run.moves.index("answer"))
        times.add(opened)
    assert times == {1, 2}


def test_a_state_that_only_somebody_outside_can_set_is_waited_for() -> None:
    definition = workflow(["a", node("task", guard="has(state.allowed)")], edge("a", "task"))
    allow = Event("allow", facts.UpdateState(changes={"state.allowed": True}))
    for run in courses(definition):
        assert run.status == "waiting"
        assert run.live == [("task", "pending")]
    for run in courses(definition, events=[allow]):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "task": 1}
