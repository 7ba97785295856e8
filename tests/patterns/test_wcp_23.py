"""WCP-23, Transient Trigger: a task waits for a signal from outside, which is lost if nobody waits when it comes.

Carried by a `wait_signal` node that does not retain.
"""

from __future__ import annotations

from tests.cases.words import edge, workflow
from tests.patterns.harness import Event, Pattern, courses
from wonder_ray.definitions.models import SignalNode
from wonder_ray.planning import facts

PATTERN = Pattern(23, "Transient Trigger", "`wait_signal` that does not retain: lost when nobody waits")
DEFINITION = workflow(
    ["a", SignalNode(id="go", retained=False, output={"state.got": "result"}), "b"],
    edge("a", "go"),
    edge("go", "b"),
    output={"got": "state.got"},
)


def signal(number: int) -> Event:
    """A signal with a payload of its own."""
    return Event(f"signal {number}", facts.SignalRun(name="go", payload=number))


def test_a_signal_counts_if_somebody_waits_and_is_lost_otherwise() -> None:
    ends = set()
    for run in courses(DEFINITION, events=[signal(1)], batched=True):
        if "a" in run.moves[: run.moves.index("signal 1")]:
            assert run.status == "completed"
            assert run.counts == {"a": 1, "go": 1, "b": 1}
            assert run.output == {"got": 1}
        else:
            assert run.status == "waiting"
            assert run.live == [("go", "waiting_for_signal")]
            assert run.counts == {"a": 1}
            assert len(run.events("signal.dropped")) == 1
            assert not run.state.kept
        ends.add(run.status)
    assert ends == {"completed", "waiting"}


def test_a_lost_signal_does_not_come_back_and_the_next_one_counts() -> None:
    for run in courses(DEFINITION, events=[signal(1), signal(2)]):
        heard = [move for move in run.moves if move != "b"]
        heard = heard[heard.index("a") + 1 :]
        assert run.status == ("completed" if heard else "waiting")
        if heard:
            assert run.output == {"got": int(heard[0].removeprefix("signal "))}
            assert run.counts == {"a": 1, "go": 1, "b": 1}


def test_one_signal_triggers_one_of_two_that_wait() -> None:
    definition = workflow(["a", SignalNode(id="go", retained=False), "b"], edge("a", "go", spawn_count=2), edge("go", "b"))
    for run in courses(definition, events=[signal(1)]):
        heard = run.moves.index("a") < run.moves.index("signal 1")
        assert run.completed["go"] == run.completed["b"] == int(heard)
        assert run.status == "waiting"


def test_what_is_kept_for_somebody_else_is_lost_for_who_did_not_wait() -> None:
    definition = workflow(
        ["a", SignalNode(id="now", signal="go", retained=False), "b", SignalNode(id="later", signal="go")],
        edge("a", "now"),
        edge("a", "b"),
        edge("b", "later"),
    )
    for run in courses(definition, events=[signal(1)]):
        early = run.moves.index("signal 1") < run.moves.index("a")
        assert run.status == "waiting"
        assert run.live == [("now" if early else "later", "waiting_for_signal")]
