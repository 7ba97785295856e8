"""What is recorded, continued: runs that wait for the world, are told something, take work back, and begin from other runs."""

from __future__ import annotations

from typing import Any

from tests.cases.words import all_of, append, edge, m_of, node, workflow
from tests.core import CoreRun
from wonder_ray.definitions.models import (
    ComputeNode,
    Escalation,
    GateNode,
    Retry,
    SignalNode,
    SubworkflowNode,
    TerminateNode,
    TimerNode,
    Undo,
    WorkflowDefinition,
)
from wonder_ray.errors import ActionError
from wonder_ray.fold import fold
from wonder_ray.planning import facts
from wonder_ray.state import ErrorRecord, Lineage


def begun(flow: WorkflowDefinition, value: Any = None, **how: Any) -> CoreRun:
    """A run after its first turn."""
    run = CoreRun(flow, **how)
    run.start(value)
    return run


# --- the world -------------------------------------------------------------------------------------------------------


def gate() -> CoreRun:
    """An answer is refused, the gate is escalated, the next answer is taken; the coordinator dies after every turn."""
    age = GateNode(
        id="age",
        input={"question": "'How old?'"},
        answer={"type": "integer", "minimum": 18},
        assignee="input.who",
        timeout_s=100,
        escalate=(Escalation(after_s=10, assignee="'boss'"),),
        output={"output.age": "result"},
    )
    run = begun(workflow([age]), {"who": "ann"}, crash_every_turn=True)
    run.say(facts.AnswerGate(gate="age", answer=13, by="ann", key="k1"))
    run.pass_time(11)
    run.say(facts.AnswerGate(gate="age", answer=19, by="boss"))
    return run


def gate_that_times_out() -> CoreRun:
    """Nobody answers; an answer that came for another gate, too early, is kept until that opens."""
    flow = workflow(
        [GateNode(id="ask", timeout_s=5), GateNode(id="again", output={"output.said": "result"})],
        edge("ask", "again", on="timed_out"),
    )
    run = begun(flow)
    run.say(facts.AnswerGate(gate="again", answer="early"))
    run.pass_time(6)
    return run


def signals() -> CoreRun:
    """Two wait for one signal, first come first served; one that comes too early is kept, one that is not kept is lost."""
    flow = workflow(
        [
            node("a"),
            SignalNode(id="go", output={"output.got": "result"}, payload={"type": "integer"}),
            SignalNode(id="too", signal="go"),
            SignalNode(id="now", retained=False),
        ],
        edge("a", "go"),
        edge("a", "too"),
        edge("a", "now"),
    )
    run = begun(flow)
    run.say(facts.SignalRun(name="go", payload=1, key="k"))
    run.say(facts.SignalRun(name="now"))
    run.finish("a")
    run.say(facts.SignalRun(name="go", payload=2))
    run.say(facts.SignalRun(name="now", payload=3))
    return run


def timers() -> CoreRun:
    """Two timers race, one is cancelled by the other; a third is due at once."""
    flow = workflow(
        [
            TimerNode(id="short", duration_s=5),
            TimerNode(id="long", duration_s="input.long"),
            TimerNode(id="past", until="'2001-01-01T00:00:00Z'"),
            ComputeNode(id="start"),
            node("end"),
        ],
        edge("start", "short", race="r"),
        edge("start", "long", race="r"),
        edge("start", "past"),
        edge("short", "end"),
        edge("long", "end"),
        edge("past", "end"),
    )
    return begun(flow, {"long": 50}).run_on()


def children() -> CoreRun:
    """One child fails and is tried again, one takes too long and is told to end, one completes."""
    flow = workflow(
        [
            SubworkflowNode(id="flaky", workflow="other", input={"n": "1"}, retry=(Retry(max_attempts=2, backoff_s=1),)),
            SubworkflowNode(id="slow", workflow="other", timeout_s=30),
            node("late"),
        ],
        edge("slow", "late", on="timed_out"),
        start=("flaky", "slow"),
    )
    run = begun(flow)
    first, slow = run.children
    run.turn(facts.ChildStarted(child_id=first, version="v1"))
    run.children.pop(first)
    run.turn(facts.ChildEnded(child_id=first, status="failed", error=ErrorRecord("Odd", "once", kind="child")))
    held = run.children.pop(slow)
    run.run_on()
    run.children[slow] = held
    run.pass_time(31)
    return run.run_on()


# --- commands ----------------------------------------------------------------------------------------------------------


def paused() -> CoreRun:
    """While it is paused nothing new begins; then it goes on, with an update."""
    flow = workflow("a b", edge("a", "b"), output={"limit": "state.limit"})
    run = begun(flow)
    run.say(facts.PauseRun(reason="maintenance", key="p"))
    run.finish("a")
    run.say(facts.UpdateState(changes={"state.limit": 3}, key="u"))
    run.say(facts.ContinueRun(key="c"))
    return run.run_on()


def open_group() -> CoreRun:
    """Members are added from outside until the group is closed."""
    flow = workflow(
        [node("a"), node("b", input={"value": "item"}), node("j")],
        edge("a", "b", foreach="['x']", group="g", open=True),
        edge("b", "j", join=all_of("g", append("output.all"))),
    )
    run = begun(flow)
    run.finish("a")
    run.finish("b")
    run.say(facts.AddMembers(group="g", items=["y", "z"], key="m"))
    run.finish("b")
    run.say(facts.SealGroup(group="g"))
    return run.run_on()


def group_completed_early() -> CoreRun:
    """By a command, by the time that its join waits, and by a transition."""
    flow = workflow(
        [node("a"), node("b", input={"value": "item"}), node("j"), node("c"), node("k"), node("d"), node("e"), node("l")],
        edge("a", "b", foreach="[1, 2, 3]", group="g"),
        edge("b", "j", join=all_of("g", append("state.all"))),
        edge("j", "c", spawn_count=2, group="h"),
        edge("c", "k", join=all_of("h").model_copy(update={"timeout_s": 5, "on_timeout": "proceed_with_available"})),
        edge("k", "d", group="i"),
        edge("k", "e", group="i"),
        edge("d", "l", join=m_of(2, "i"), complete_groups=("i",)),
        edge("e", "l", join=m_of(2, "i")),
    )
    run = begun(flow)
    run.finish("a")
    run.finish("b")
    run.say(facts.CompleteGroup(group="g", reason="enough", key="c"))
    run.finish("j")
    run.finish("c")
    run.pass_time(6)
    run.finish("k")
    run.finish("d")
    return run.run_on()


def cancelled_with_compensation() -> CoreRun:
    """Two nodes are undone, the last first; one undo fails."""
    undo = Undo(action="m:undo", input={"id": "result"})
    flow = workflow([node("a", undo=undo), node("b", undo=undo), node("c")], edge("a", "b"), edge("b", "c"))

    def broken(**_given: Any) -> Any:
        raise ActionError("Stuck", "it cannot be undone", retryable=False)

    run = begun(flow, actions={"undo:b": broken})
    run.finish("a")
    run.finish("b")
    run.say(facts.CancelRun(reason="no more", compensate=True))
    return run.run_on()


# --- order -------------------------------------------------------------------------------------------------------------


def locks() -> CoreRun:
    """A mutex over two nodes, and a key that admits one at a time; little room, and a coordinator that dies."""
    flow = workflow(
        [
            node("a"),
            node("b", mutex=("m",)),
            node("c", mutex=("m",)),
            node("d", concurrency_key="string(item % 2)", input={"value": "item"}),
        ],
        edge("a", "b", spawn_count=3),
        edge("b", "c"),
        edge("a", "d", foreach="[1, 2, 3, 4]"),
    )
    return CoreRun(flow, room=2, crash_at=5).run()


def guards() -> CoreRun:
    """A node waits until its guard holds; another one's never will."""
    flow = workflow(
        [
            node("a"),
            node("b", guard="has(state.on) && state.on"),
            node("c", guard="has(state.never)"),
            node("first"),
            ComputeNode(id="open", output={"state.on": "true"}),
            node("missed"),
        ],
        edge("a", "b"),
        edge("a", "first"),
        edge("first", "open"),
        edge("a", "c"),
        edge("b", "missed", when="has(state.never)"),
    )
    run = begun(flow)
    run.run_on()
    run.say(facts.UpdateState(changes={"state.never": 1}))
    return run.run_on()


def effects() -> CoreRun:
    """A transition cancels nodes, whose handlers run, and a group; then a node ends the run while something waits."""
    flow = workflow(
        [
            *(node(name) for name in ("a", "b", "c", "d", "e", "told")),
            SignalNode(id="wait"),
            TerminateNode(id="end"),
        ],
        edge("a", "b"),
        edge("a", "c"),
        edge("a", "d", group="g"),
        edge("a", "wait"),
        edge("b", "e", cancel=("c",), cancel_groups=("g",)),
        edge("c", "told", on="cancelled"),
        edge("e", "end"),
    )
    run = begun(flow)
    run.finish("a")
    run.finish("b")
    run.finish("told")
    return run.run_on()


def blocking_joins() -> CoreRun:
    """Two groups of one name: the join of the later one waits for the earlier."""
    join = all_of("g").model_copy(update={"blocking": True})
    flow = workflow(
        [node("a"), node("b"), node("j")],
        edge("a", "b", group="g"),
        edge("b", "j", join=join),
        edge("start", "a", spawn_count=2),
        start=("start",),
    )
    flow = flow.model_copy(update={"nodes": (*flow.nodes, ComputeNode(id="start"))})
    run = begun(flow)
    run.finish("a", 1)
    run.finish("a")
    run.finish("b")
    return run.run_on()


# --- forks -------------------------------------------------------------------------------------------------------------


def forked() -> CoreRun:
    """A run that begins from the middle of another one, with a value set anew."""
    flow = workflow(
        [
            node("a", input={"value": "input"}, output={"state.x": "result"}),
            node("b", input={"value": "state.x"}),
            SignalNode(id="s"),
        ],
        edge("a", "b"),
        edge("a", "s"),
        output={"x": "state.x"},
    )
    source = begun(flow, 5)
    source.finish("a")
    at = len(source.rows)
    source.finish("b")
    run = CoreRun(flow)
    lineage = Lineage(run_id="run_0192f0c1a2b0_0000000000000000", sequence=at)
    fork = facts.Fork(source=lineage, state=fold(source.state.run.run_id, source.rows, at=at), changes={"state.x": 7})
    run.turn(facts.StartRun(input=5, workflow_name="test", workflow_version="v", fork=fork))
    run.run_on()
    run.say(facts.SignalRun(name="s"))
    return run


WAITING_SCENARIOS = (
    gate,
    gate_that_times_out,
    signals,
    timers,
    children,
    paused,
    open_group,
    group_completed_early,
    cancelled_with_compensation,
    locks,
    guards,
    effects,
    blocking_joins,
    forked,
)
