"""The pattern cases S1 to S11."""

from __future__ import annotations

from tests.cases.words import Case, all_of, any_of, append, edge, m_of, node, workflow


def s1(last: str = "g3b") -> Case:
    """Synchronization over unequal branches; `last` is the branch that arrives last."""
    join = all_of("g")
    return Case(
        name=f"s1-{last}-last",
        definition=workflow(
            "first f1 f2 f3 g3a g3b join end",
            *(edge("first", f, group="g") for f in ("f1", "f2", "f3")),
            edge("f3", "g3a"),
            edge("f3", "g3b"),
            *(edge(f, "join", join=join) for f in ("f1", "f2", "g3a", "g3b")),
            edge("join", "end"),
        ),
        completed=dict.fromkeys(("first", "f1", "f2", "f3", "g3a", "g3b", "join", "end"), 1),
        seconds={last: 1.0},
        before=tuple((f, "join") for f in ("f1", "f2", "g3a", "g3b")),
    )


def s2() -> Case:
    """Parallel split without a join."""
    return Case(
        name="s2",
        definition=workflow(
            "first f1 f2 f3 last end",
            *(edge("first", f) for f in ("f1", "f2", "f3")),
            *(edge(f, "last") for f in ("f1", "f2", "f3")),
            edge("last", "end"),
        ),
        completed={"first": 1, "f1": 1, "f2": 1, "f3": 1, "last": 3, "end": 3},
        seconds={"f2": 1.0},
    )


def s3() -> Case:
    """Ordered exclusive choice."""
    return Case(
        name="s3",
        definition=workflow(
            "choice1 c1 c2 c3 choice2 d1 d2 d3 last",
            edge("choice1", "c2", when="1 == 2"),
            edge("choice1", "c3", when="input.a1 == input.a2", priority=1),
            edge("choice1", "c1", priority=2),
            *(edge(c, "choice2") for c in ("c1", "c2", "c3")),
            edge("choice2", "d2", when="1 == 1"),
            edge("choice2", "d3", when="input.a1 == input.a1", priority=1),
            edge("choice2", "d1", priority=2),
            *(edge(d, "last") for d in ("d1", "d2", "d3")),
        ),
        input={"a1": "false", "a2": "true"},
        completed={"choice1": 1, "c1": 1, "choice2": 1, "d2": 1, "last": 1},
    )


def s4(*, join: bool = True) -> Case:
    """Multi-choice and synchronizing merge; without the join, a multi-merge."""
    chosen = [
        edge("m", "e1", group="g", when="input.a1 == input.a1"),
        edge("m", "e2", group="g", when="input.a1 == input.a2"),
        edge("m", "e3", group="g", when="input.a2 == input.a2"),
    ]
    data = {"a1": "false", "a2": "true"}
    if not join:
        definition = workflow(
            "m e1 e2 e3 merge last", *chosen, *(edge(e, "merge") for e in ("e1", "e2", "e3")), edge("merge", "last")
        )
        return Case("s4-multi-merge", definition, {"m": 1, "e1": 1, "e3": 1, "merge": 2, "last": 2}, data)
    definition = workflow(
        "m e1 e2 e3 g3a g3b join last",
        *chosen,
        edge("e3", "g3a"),
        edge("e3", "g3b"),
        *(edge(e, "join", join=all_of("g")) for e in ("e1", "e2", "g3a", "g3b")),
        edge("join", "last"),
    )
    return Case(
        name="s4",
        definition=definition,
        input=data,
        completed=dict.fromkeys(("m", "e1", "e3", "g3a", "g3b", "join", "last"), 1),
        before=(("e1", "join"), ("g3a", "join"), ("g3b", "join")),
    )


def s5(slow: str = "a3") -> Case:
    """Structured discriminator."""
    fast = "a1" if slow == "a3" else "a3"
    return Case(
        name=f"s5-{slow}-slow",
        definition=workflow(
            "m a1 a2 a3 join last",
            edge("m", "a1", group="g", when="true"),
            edge("m", "a2", group="g", when="false"),
            edge("m", "a3", group="g", when="true"),
            *(edge(a, "join", join=any_of("g")) for a in ("a1", "a2", "a3")),
            edge("join", "last"),
        ),
        completed={"m": 1, "a1": 1, "a3": 1, "join": 1, "last": 1},
        seconds={slow: 2.0},
        before=((fast, "join"),),
    )


def s6() -> Case:
    """Discriminator inside a loop."""
    return Case(
        name="s6",
        definition=workflow(
            "first f1 f2 f3 join last",
            *(edge("first", f, group="g") for f in ("f1", "f2", "f3")),
            *(edge(f, "join", join=any_of("g")) for f in ("f1", "f2", "f3")),
            edge("join", "first", max_iterations=1),
            edge("join", "last", priority=1),
            start=("first",),
        ),
        completed={"first": 2, "f1": 2, "f2": 2, "f3": 2, "join": 2, "last": 1},
        seconds={"f2": 3.0, "f3": 3.0},
    )


def s9() -> Case:
    """Multiple instances, all joined."""
    return Case(
        name="s9-all",
        definition=workflow(
            "mi g1 g2 join last",
            edge("mi", "g1", spawn_count="input.count", group="g"),
            edge("g1", "g2"),
            edge("g2", "join", join=all_of("g")),
            edge("join", "last"),
        ),
        input={"count": 2},
        completed={"mi": 1, "g1": 2, "g2": 2, "join": 1, "last": 1},
        before=(("g2", "join"),),
    )


def s9_without_join() -> Case:
    """Three instances with two successors each, and nobody waits."""
    return Case(
        name="s9-free",
        definition=workflow(
            "first mi g1 g2 last",
            edge("first", "mi", spawn_count=3),
            edge("mi", "g1"),
            edge("mi", "g2"),
            edge("g1", "last"),
            edge("g2", "last"),
        ),
        completed={"first": 1, "mi": 3, "g1": 3, "g2": 3, "last": 6},
    )


def s9_partial() -> Case:
    """Three instances with two successors each, of which any four arrivals suffice."""
    join = m_of(4, "g", "absorb", append("state.arrived"))
    return Case(
        name="s9-partial",
        definition=workflow(
            [*map(node, ("first", "mi", "g1", "g2")), node("join", input={"value": "size(state.arrived)"}), node("last")],
            edge("first", "mi", spawn_count=3, group="g"),
            edge("mi", "g1"),
            edge("mi", "g2"),
            edge("g1", "join", join=join),
            edge("g2", "join", join=join),
            edge("join", "last"),
            output={"arrived": "size(state.arrived)"},
        ),
        completed={"first": 1, "mi": 3, "g1": 3, "g2": 3, "join": 1, "last": 1},
        output={"arrived": 4},
    )


def s11(slow: str = "g2") -> Case:
    """A branch that never reaches the join."""
    join = all_of("g")
    return Case(
        name=f"s11-{slow}-slow",
        definition=workflow(
            "first f1 f2 f3 g1 g2 foo join end",
            *(edge("first", f, group="g") for f in ("f1", "f2", "f3")),
            edge("f3", "g2", when="1 == 1"),
            edge("f3", "g1", priority=1),
            edge("g2", "foo"),
            *(edge(f, "join", join=join) for f in ("f1", "f2", "g1")),
            edge("join", "end"),
        ),
        completed=dict.fromkeys(("first", "f1", "f2", "f3", "g2", "foo", "join", "end"), 1),
        seconds={slow: 2.0},
        before=(("f1", "join"), ("f2", "join")),
    )


def s11_harder() -> Case:
    """As S11, and the branch that never arrives first loops twice over one node and later twice over another."""
    join = all_of("g")
    return Case(
        name="s11-harder",
        definition=workflow(
            "first f1 f2 f3 c1 g1 g2 stub1 done join end",
            *(edge("first", f, group="g") for f in ("f1", "f2", "f3")),
            edge("f3", "c1"),
            edge("c1", "c1", max_iterations=1),
            edge("c1", "g2", when="1 == 1", priority=1),
            edge("c1", "g1", priority=2),
            edge("g2", "stub1"),
            edge("stub1", "stub1", max_iterations=1),
            edge("stub1", "done", priority=1),
            *(edge(f, "join", join=join) for f in ("f1", "f2", "g1")),
            edge("join", "end"),
        ),
        completed=dict.fromkeys(("first", "f1", "f2", "f3", "g2", "done", "join", "end"), 1) | {"c1": 2, "stub1": 2},
        seconds={"c1": 0.5, "stub1": 0.5},
        before=(("f1", "join"), ("f2", "join")),
    )


def s11_harder_loop_bound() -> Case:
    """The exhausted loop is no way out when nothing else matches: the node fails, and with it the run."""
    return Case(
        name="s11-loop-bound",
        definition=workflow("a b", edge("a", "b"), edge("b", "b", max_iterations=2)),
        completed={"a": 1, "b": 3},
        status="failed",
        error_type="LoopBoundExceeded",
    )


def s_cases() -> list[Case]:
    """All S cases."""
    return [
        *(s1(last) for last in ("f1", "f2", "f3", "g3a", "g3b")),
        *(s2(), s3(), s4(), s4(join=False), s5("a1"), s5("a3"), s6()),
        *(s9(), s9_without_join(), s9_partial()),
        *(s11(), s11("foo"), s11("f1"), s11_harder(), s11_harder_loop_bound()),
    ]
