"""WCP-16, Deferred Choice: several branches are offered, the first event from outside picks one, and the others are withdrawn.

Carried by a race of gates, signals and timers: the transitions of one split that name the same `race`.
"""

from __future__ import annotations

from tests.cases.words import edge, workflow
from tests.patterns.harness import TIME, Course, Event, Pattern, courses
from wonder_ray.definitions.models import GateNode, SignalNode, TimerNode
from wonder_ray.planning import facts

PATTERN = Pattern(16, "Deferred Choice", "race of gates, signals and timers: the first withdraws the others")
OFFERS = {"answer": "ask", "signal": "go", TIME: "late"}
"""Move -> the node that it picks."""
DEFINITION = workflow(
    [
        "a",
        GateNode(id="ask"),
        SignalNode(id="go"),
        TimerNode(id="late", duration_s=60),
        *(f"after_{offer}" for offer in OFFERS.values()),
    ],
    *(edge("a", offer, race="first") for offer in OFFERS.values()),
    *(edge(offer, f"after_{offer}") for offer in OFFERS.values()),
)


def offered(run: Course) -> bool:
    """Whether the choice is there to be made."""
    return "a" in run.moves


ANSWER = Event("answer", facts.AnswerGate(gate="ask", answer=1), when=offered)
SIGNAL = Event("signal", facts.SignalRun(name="go", payload=2), when=offered)


def check_choice(run: Course, picked: str) -> None:
    """One branch was taken, the others were withdrawn before they began."""
    others = {offer for offer in OFFERS.values() if offer != picked}
    assert run.status == "completed"
    assert run.counts == {"a": 1, picked: 1, f"after_{picked}": 1}
    assert set(run.cancelled) == others
    assert len(run.cancelled) == 2


def test_the_first_event_picks_the_branch_and_withdraws_the_others() -> None:
    picked = set()
    for run in courses(DEFINITION, events=[ANSWER, SIGNAL]):
        first = next(move for move in run.moves if move in OFFERS)
        check_choice(run, OFFERS[first])
        picked.add(OFFERS[first])
    assert picked == set(OFFERS.values())


def test_of_events_of_the_same_moment_the_first_picks() -> None:
    met = 0
    for run in courses(DEFINITION, events=[ANSWER, SIGNAL], batched=True):
        check_choice(run, OFFERS[next(move for move in run.moves if move in OFFERS)])
        met += {"answer", "signal"} in run.meetings
    assert met


def test_all_branches_are_offered_until_the_choice_is_made() -> None:
    for run in courses(DEFINITION):
        assert run.at_a_time(*OFFERS.values()) == 3
        check_choice(run, "late")


def test_what_came_before_the_offer_picks_when_the_branches_are_offered() -> None:
    early = [
        Event("answer", facts.AnswerGate(gate="ask", answer=1), when=lambda run: not run.moves),
        Event("signal", facts.SignalRun(name="go", payload=2), when=lambda run: not offered(run)),
    ]
    for run in courses(DEFINITION, events=early):
        came = [move for move in run.moves if move in {"answer", "signal"}]
        (picked,) = set(run.counts) & set(OFFERS.values())
        check_choice(run, picked)
        assert picked in {OFFERS[move] for move in came} if came else picked == "late"


def test_two_choices_of_one_run_are_independent() -> None:
    definition = workflow(
        ["a", GateNode(id="p"), GateNode(id="q"), GateNode(id="x"), GateNode(id="y")],
        *(edge("a", offer, race="first") for offer in "pq"),
        *(edge("a", offer, race="second") for offer in "xy"),
    )
    events = [Event(name, facts.AnswerGate(gate=name, answer=name), when=offered) for name in "pqxy"]
    pairs = set()
    for run in courses(definition, events=events):
        chosen = (next(m for m in run.moves if m in "pq"), next(m for m in run.moves if m in "xy"))
        assert run.status == "completed"
        assert run.counts == {"a": 1, chosen[0]: 1, chosen[1]: 1}
        pairs.add(chosen)
    assert len(pairs) == 4


def test_threads_that_are_offered_the_same_choose_each_for_itself() -> None:
    definition = workflow(
        ["s", "a", SignalNode(id="go"), TimerNode(id="late", duration_s=60)],
        edge("s", "a", spawn_count=2),
        *(edge("a", offer, race="first") for offer in ("go", "late")),
    )
    went = set()
    for run in courses(definition, events=[SIGNAL]):
        assert run.status == "completed"
        assert run.completed["go"] + run.completed["late"] == 2
        assert sorted(run.cancelled) == sorted(["go"] * run.completed["late"] + ["late"] * run.completed["go"])
        went.add(run.completed["go"])
    assert went == {0, 1}


def test_an_alternative_that_is_withdrawn_from_elsewhere_leaves_the_choice_to_the_others() -> None:
    definition = workflow(
        ["a", GateNode(id="ask"), SignalNode(id="go"), "stop", "end"],
        edge("a", "ask", race="first"),
        edge("a", "go", race="first"),
        edge("a", "stop"),
        edge("stop", "end", cancel=("ask",)),
    )
    for run in courses(definition, events=[ANSWER, SIGNAL]):
        first = next(
            move
            for move in run.moves
            if move == "signal" or (move == "answer" and "stop" not in run.moves[: run.moves.index(move)])
        )
        assert run.status == "completed"
        assert run.counts == {"a": 1, "stop": 1, "end": 1, OFFERS[first]: 1}
