"""WCP-39, Critical Section: two or more parts of a case never run at the same time.

Carried by a `mutex` that the nodes of the parts name: it is held from the first of them to the last, the ways between included.
"""

from __future__ import annotations

from itertools import pairwise

from tests.cases.words import all_of, edge, node, workflow
from tests.patterns.harness import Course, Pattern, courses

PATTERN = Pattern(39, "Critical Section", "`mutex` over the nodes of each section")
SECTIONS = (("p1", "p2"), ("q1", "q2"))
INSIDE = tuple(task for section in SECTIONS for task in section)
DEFINITION = workflow(
    ["a", *(node(task, mutex=("m",)) for task in INSIDE), "p3", "q3", "end"],
    edge("a", "p1", group="g"),
    edge("p1", "p2"),
    edge("p2", "p3"),
    edge("a", "q1", group="g"),
    edge("q1", "q2"),
    edge("q2", "q3"),
    edge("p3", "end", join=all_of("g")),
    edge("q3", "end", join=all_of("g")),
)


def apart(run: Course, *sections: tuple[str, ...]) -> bool:
    """Whether no section was entered before one that had been entered was left."""
    spans = sorted((min(run.starts(*section)), max(run.ends(*section))) for section in sections)
    return all(left < entered for (_, left), (entered, _) in pairwise(spans))


def test_one_section_is_left_before_the_other_is_entered() -> None:
    first, beside = set(), 0
    for run in courses(DEFINITION, batched=True):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", *INSIDE, "p3", "q3", "end"], 1)
        assert apart(run, *SECTIONS)
        first.add(run.sequence(*INSIDE)[0])
        beside += run.at_a_time("p3", "q1", "q2") == 2
    assert first == {"p1"}, "who asks first is served first"
    assert beside, "what follows a section is not held back"


def test_the_one_who_is_ready_first_is_served_first() -> None:
    definition = workflow(
        ["a", "x", "y", *(node(task, mutex=("m",)) for task in INSIDE)],
        edge("a", "x"),
        edge("a", "y"),
        edge("x", "p1"),
        edge("p1", "p2"),
        edge("y", "q1"),
        edge("q1", "q2"),
    )
    first = set()
    for run in courses(definition):
        assert run.status == "completed"
        assert apart(run, *SECTIONS)
        assert run.sequence(*INSIDE)[0] == ("p1" if run.moves.index("x") < run.moves.index("y") else "q1")
        first.add(run.sequence(*INSIDE)[0])
    assert first == {"p1", "q1"}


def test_sections_of_two_mutexes_that_are_named_in_different_order_do_not_block_each_other_for_ever() -> None:
    definition = workflow(
        ["a", "x", "y", node("p", mutex=("m", "n")), node("q", mutex=("n", "m"))],
        edge("a", "x"),
        edge("a", "y"),
        edge("x", "p"),
        edge("y", "q"),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.at_a_time("p", "q") == 1


def test_a_section_that_is_withdrawn_or_fails_is_left() -> None:
    definition = workflow(
        [
            "a",
            node("p1", mutex=("m",)),
            node("p2", "fail_always", mutex=("m",)),
            "handled",
            node("q1", mutex=("m",)),
            node("r1", mutex=("m",)),
            node("r2", mutex=("m",)),
            "stop",
            "end",
        ],
        edge("a", "p1"),
        edge("p1", "p2"),
        edge("p2", "handled", on="failed"),
        edge("a", "r1"),
        edge("r1", "r2"),
        edge("a", "q1"),
        edge("a", "stop"),
        edge("stop", "end", cancel=("r1", "r2")),
        start=("a",),
    )
    withdrawn = set()
    for run in courses(definition, late=True, most=600):
        assert run.status == "completed"
        assert run.completed["handled"] == run.completed["q1"] == 1
        assert run.at_a_time("p1", "p2", "q1", "r1", "r2") == 1
        withdrawn.update(run.cancelled)
    assert withdrawn == {"r1", "r2"}


def test_a_section_that_splits_is_left_when_its_last_branch_has() -> None:
    definition = workflow(
        ["a", *(node(task, mutex=("m",)) for task in ("p1", "p2", "p3")), node("q", mutex=("m",)), "end"],
        edge("a", "p1"),
        edge("p1", "p2"),
        edge("p1", "p3"),
        edge("a", "q"),
        edge("q", "end"),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert apart(run, ("p1", "p2", "p3"), ("q",))
        assert run.at_a_time("p2", "p3") == 2, "branches of one section hold the mutex together"


def test_a_section_that_needs_two_mutexes_is_not_overtaken_for_ever() -> None:
    definition = workflow(
        ["a", node("hold", mutex=("n",)), "x", node("both", mutex=("m", "n")), "y", node("one", mutex=("m",))],
        edge("a", "hold"),
        edge("a", "x"),
        edge("x", "both"),
        edge("a", "y"),
        edge("y", "one"),
    )
    waited = 0
    for run in courses(definition):
        assert run.status == "completed"
        assert run.at_a_time("hold", "both") == run.at_a_time("both", "one") == 1
        if run.moves.index("x") < run.moves.index("y"):
            assert run.in_order("both", "one")
            waited += run.moves.index("y") < run.moves.index("hold")
    assert waited, "in some order the mutex is free, and yet another section has a right to it"
