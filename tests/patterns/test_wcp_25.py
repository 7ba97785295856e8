"""WCP-25, Cancel Region: every task in a set of nodes is withdrawn; what is outside is not touched.

Carried by `cancel` on a transition, which names the nodes of the region.
"""

from __future__ import annotations

from tests.cases.words import edge, workflow
from tests.patterns.harness import Event, Pattern, courses
from wonder_ray.definitions.models import GateNode, TimerNode
from wonder_ray.planning import facts

PATTERN = Pattern(25, "Cancel Region", "`cancel` names the nodes of a region")
REGION = ("p", "p2", "q")
DEFINITION = workflow(
    "a p p2 p3 q q2 stop end",
    edge("a", "p"),
    edge("p", "p2"),
    edge("p2", "p3"),
    edge("a", "q"),
    edge("q", "q2"),
    edge("a", "stop"),
    edge("stop", "end", cancel=REGION),
)


def test_what_is_in_the_region_is_withdrawn_and_what_has_left_it_goes_on() -> None:
    withdrawn = set()
    for run in courses(DEFINITION, late=True):
        before = run.moves[: run.moves.index("stop")]
        left = {"p3": "p2" in before, "q2": "q" in before}
        inside = [node for node in before if node in REGION]
        done = ["a", *inside, *(node for node, through in left.items() if through), "stop", "end"]
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(done, 1)
        assert len(run.cancelled) == list(left.values()).count(False)
        assert set(run.cancelled) <= set(REGION)
        withdrawn.update(run.cancelled)
    assert withdrawn == set(REGION)


def test_gates_and_timers_in_the_region_are_withdrawn() -> None:
    definition = workflow(
        ["a", GateNode(id="ask"), TimerNode(id="pause", duration_s=10), "b", "c", "stop", "end"],
        edge("a", "ask"),
        edge("ask", "b"),
        edge("a", "pause"),
        edge("pause", "c"),
        edge("a", "stop"),
        edge("stop", "end", cancel=("ask", "pause")),
    )
    answer = Event("answer", facts.AnswerGate(gate="ask", answer=1))
    for run in courses(definition, events=[answer]):
        before = run.moves[: run.moves.index("stop")]
        assert run.status == "completed"
        assert run.completed["b"] == int("answer" in before or run.completed["ask"])
        assert run.completed["c"] == int("time" in before)
        assert run.completed["b"] + run.completed["c"] + len(run.cancelled) == 2


def test_a_region_that_is_empty_is_no_mistake() -> None:
    definition = workflow("a b p end", edge("a", "b", when="true"), edge("a", "p", priority=1), edge("b", "end", cancel=("p",)))
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "b": 1, "end": 1}
