"""The behaviour cases S1 to S11 and A1 to A8 as definitions, with what must come of them: for the core and for a real cluster.

Every action is a pure function of this module, named by its node (`ActionNode.action`), so that any runner can call it.
`Case.seconds` are the delays that force the arrival order a case is about; a node that is not named takes next to no time.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wonder_ray.definitions.models import ActionNode, Join, Merge, Retry, Transition, WorkflowDefinition
from wonder_ray.errors import ActionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = "tests.cases.definitions"


@dataclass(frozen=True)
class Case:
    """One case: what is run, and what must come of it."""

    name: str
    definition: WorkflowDefinition
    completed: Mapping[str, int]
    """Node -> how often it completes; nodes that are not named complete never."""
    input: Any = None
    status: str = "completed"
    output: Any = None
    """The run's output, where the definition has one."""
    error_type: str | None = None
    error_message: str | None = None
    """A part of the error's message."""
    failed_attempts: Mapping[str, int] = field(default_factory=dict)
    """Node -> how many of its attempts fail."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Node -> how long its action takes."""
    before: tuple[tuple[str, str], ...] = ()
    """(x, y): every x completes before any y starts."""
    racing: tuple[str, ...] = ()
    """Nodes of which it depends on the order of arrival how often they complete: `completed` holds for `seconds`."""

    @property
    def actions(self) -> dict[str, Callable[..., Any]]:
        """Node -> its action."""
        return {node.id: action(node.action) for node in self.definition.nodes if isinstance(node, ActionNode)}


def action(ref: str) -> Callable[..., Any]:
    """The function that an action's `module:name` means."""
    found: Callable[..., Any] = getattr(sys.modules[__name__], ref.partition(":")[2])
    return found


# --- actions -------------------------------------------------------------------------------------------------------


def echo(value: Any = None) -> Any:
    """What it was given."""
    return value


def branch(number: int) -> dict[str, int]:
    """A result that names its branch."""
    return {"branch": number}


def fail_always() -> None:
    """Fails with a type and a cause of its own."""
    raise ActionError("FailureType", "Cause description")


def fail_at_three(value: Any) -> Any:
    """Fails for an item equal to 3."""
    if value == 3 and not isinstance(value, bool):
        raise ActionError("SomeFailure", "the item is 3", retryable=False)
    return value


# --- words ---------------------------------------------------------------------------------------------------------


def node(node_id: str, does: str = "echo", **rest: Any) -> ActionNode:
    """An action node; by default it returns its input."""
    return ActionNode(id=node_id, action=f"{HERE}:{does}", **rest)


def edge(source: str, target: str, **rest: Any) -> Transition:
    """A transition."""
    return Transition(source=source, target=target, **rest)


def workflow(nodes: str | list[Any], *edges: Transition, **rest: Any) -> WorkflowDefinition:
    """A workflow of nodes (by name, or made before) and transitions."""
    made = [node(n) if isinstance(n, str) else n for n in (nodes.split() if isinstance(nodes, str) else nodes)]
    return WorkflowDefinition(name=rest.pop("name", "case"), nodes=tuple(made), transitions=edges, **rest)


def all_of(over: str, *merge: Merge) -> Join:
    """An `all` join."""
    return Join(over=over, merge=merge)


def any_of(over: str, remaining: str = "absorb", *merge: Merge) -> Join:
    """An `any` join."""
    return Join(over=over, strategy="any", remaining=remaining, merge=merge)  # type: ignore[arg-type] # checked by the model


def m_of(m: int | str, over: str, remaining: str = "absorb", *merge: Merge) -> Join:
    """An `m_of_n` join."""
    return Join(over=over, strategy="m_of_n", m=m, remaining=remaining, merge=merge)  # type: ignore[arg-type] # as above


def append(target: str, source: str = "result") -> Merge:
    """An `append` merge."""
    return Merge(target=target, source=source)


# --- S: patterns ---------------------------------------------------------------------------------------------------


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


# --- A: data, failure, retry, timeout ------------------------------------------------------------------------------


def a1_order() -> Case:
    """Results come in definition order, whatever the order in which the branches finish."""
    branches = [node(f"b{i}", "branch", input={"number": str(i)}) for i in range(4)]
    return Case(
        name="a1-order",
        definition=workflow(
            [node("first"), *branches, node("join")],
            *(edge("first", b.id, group="g") for b in branches),
            *(edge(b.id, "join", join=all_of("g", append("state.all"))) for b in branches),
            output={"all": "state.all"},
        ),
        completed={"first": 1, "b0": 1, "b1": 1, "b2": 1, "b3": 1, "join": 1},
        output={"all": [{"branch": i} for i in range(4)]},
        seconds={"b0": 2.0, "b2": 1.0},
    )


def a1_identity() -> Case:
    """Identity branches of one, two and three nodes."""
    given = {"input": {"value": "input"}}
    names = ("a1", "b1", "b2", "c1", "c2", "c3")
    join = all_of("g", append("state.all"))
    return Case(
        name="a1-identity",
        definition=workflow(
            [node("first"), *(node(name, **given) for name in names), node("join")],
            *(edge("first", name, group="g") for name in ("a1", "b1", "c1")),
            edge("b1", "b2"),
            edge("c1", "c2"),
            edge("c2", "c3"),
            *(edge(name, "join", join=join) for name in ("a1", "b2", "c3")),
            output={"all": "state.all"},
        ),
        input=[1, 2, 3, 4],
        completed=dict.fromkeys(("first", *names, "join"), 1),
        output={"all": [[1, 2, 3, 4]] * 3},
    )


def a2_nested_foreach() -> Case:
    """A foreach in a foreach gives the same nested lists back."""
    return Case(
        name="a2-foreach",
        definition=workflow(
            [node("first"), node("row"), node("cell", input={"value": "cell"}), node("row_end"), node("end")],
            edge("first", "row", foreach="input", item="row", group="rows"),
            edge("row", "cell", foreach="row", item="cell", group="cells"),
            edge("cell", "row_end", join=all_of("cells", append("state.cells"))),
            edge("row_end", "end", join=all_of("rows", append("state.rows", "state.cells"))),
            output={"rows": "state.rows"},
        ),
        input=[[1, 2, 3], [4, 5, 6]],
        completed={"first": 1, "row": 2, "cell": 6, "row_end": 2, "end": 1},
        output={"rows": [[1, 2, 3], [4, 5, 6]]},
    )


def a2_nested_split() -> Case:
    """A split of one branch inside a split of one branch: each join wraps once."""
    return Case(
        name="a2-split",
        definition=workflow(
            [node("first"), node("outer"), node("inner", input={"value": "input"}), node("inner_end"), node("end")],
            edge("first", "outer", group="o"),
            edge("outer", "inner", group="i"),
            edge("inner", "inner_end", join=all_of("i", append("state.inner"))),
            edge("inner_end", "end", join=all_of("o", append("state.all", "state.inner"))),
            output={"all": "state.all"},
        ),
        input=[[1, 2, 3], [4, 5, 6]],
        completed={"first": 1, "outer": 1, "inner": 1, "inner_end": 1, "end": 1},
        output={"all": [[[[1, 2, 3], [4, 5, 6]]]]},
    )


def a2_limits() -> Case:
    """Four outer and five inner items under limits; the results are discarded by mapping."""
    return Case(
        name="a2-limits",
        definition=workflow(
            [node("first"), node("row"), node("cell", input={"value": "item"}), node("row_end"), node("end")],
            edge("first", "row", foreach="input.outer", item="row", group="rows", max_concurrency=50),
            edge("row", "cell", foreach="input.inner", group="cells", max_concurrency=9),
            edge("cell", "row_end", join=all_of("cells")),
            edge("row_end", "end", join=all_of("rows")),
            output={"same": "input"},
        ),
        input={"outer": [1, 2, 3, 4], "inner": [1, 2, 3, 4, 5]},
        completed={"first": 1, "row": 4, "cell": 20, "row_end": 4, "end": 1},
        output={"same": {"outer": [1, 2, 3, 4], "inner": [1, 2, 3, 4, 5]}},
    )


def _foreach_input(**rest: Any) -> WorkflowDefinition:
    return workflow(
        [node("first"), node("each", input={"value": "item"}), node("join"), node("end")],
        edge("first", "each", foreach="input.items", group="g"),
        edge("each", "join", join=all_of("g", append("state.all"))),
        edge("join", "end"),
        output={"all": "state.all"},
        **rest,
    )


def a3(items: list[Any]) -> Case:
    """A foreach over a small or empty list."""
    completed = {"first": 1, "each": len(items), "join": 1, "end": 1}
    return Case(f"a3-{len(items)}", _foreach_input(), completed, {"items": items}, output={"all": items})


def a4(items: Any) -> Case:
    """A foreach over what is no list."""
    return Case(
        name=f"a4-{type(items).__name__}",
        definition=_foreach_input(),
        input={"items": items},
        completed={"first": 1},
        status="failed",
        error_type="ExpressionError",
        error_message=repr(items),
    )


def a5(*, handled: bool) -> Case:
    """A branch fails with an error of its own type, with and without a handler for that type."""
    handler = node("handler", input={"value": "{'Error': error.type, 'Cause': error.message}"}, output={"state.caught": "result"})
    handlers = [edge("first", "handler", on="group_failed(g)[FailureType]")] if handled else []
    definition = workflow(
        [node("first"), node("good"), node("bad", "fail_always"), node("end"), handler],
        edge("first", "good", group="g"),
        edge("first", "bad", group="g"),
        edge("good", "end", join=all_of("g")),
        edge("bad", "end", join=all_of("g")),
        *handlers,
        start=("first",),
        output={"caught": "state.caught"} if handled else {},
    )
    if not handled:
        return Case(
            name="a5-unhandled",
            definition=definition,
            completed={"first": 1},
            status="failed",
            error_type="FailureType",
            error_message="Cause description",
            failed_attempts={"bad": 1},
            seconds={"good": 1.0},
            racing=("good",),
        )
    return Case(
        name="a5-handled",
        definition=definition,
        completed={"first": 1, "handler": 1},
        output={"caught": {"Error": "FailureType", "Cause": "Cause description"}},
        failed_attempts={"bad": 1},
        seconds={"good": 1.0},
        racing=("good",),
    )


def a5_node_handler() -> Case:
    """The handler stands at the failing node itself, by error type; its normal successor does not run."""
    handler = node("handler", input={"value": "{'Error': error.type, 'Cause': error.message}"}, output={"state.caught": "result"})
    return Case(
        name="a5-node",
        definition=workflow(
            [node("bad", "fail_always"), node("next"), handler, node("other"), node("any")],
            edge("bad", "next"),
            edge("bad", "handler", on="failed[FailureType]"),
            edge("bad", "other", on="failed[OtherType]"),
            edge("bad", "any", on="failed", priority=1),
            start=("bad",),
            output={"caught": "state.caught"},
        ),
        completed={"handler": 1},
        output={"caught": {"Error": "FailureType", "Cause": "Cause description"}},
        failed_attempts={"bad": 1},
    )


def a6_group_retry() -> Case:
    """A whole group is made again twice; then its error is the run's."""
    return Case(
        name="a6-group",
        definition=workflow(
            [node("first"), node("good"), node("bad", "fail_always"), node("end")],
            edge("first", "good", group="g"),
            edge("first", "bad", group="g"),
            edge("first", "good", group="g", on="group_failed(g)", max_iterations=2),
            edge("first", "bad", group="g", on="group_failed(g)", max_iterations=2),
            edge("good", "end", join=all_of("g")),
            edge("bad", "end", join=all_of("g")),
            start=("first",),
        ),
        completed={"first": 1, "good": 3},
        status="failed",
        error_type="FailureType",
        failed_attempts={"bad": 3},
        seconds={"bad": 1.0},
        racing=("good",),
    )


def a6_retry(name: str, attempts: int, *rules: Retry) -> Case:
    """An always failing step under retry rules."""
    definition = workflow([node("bad", "fail_always", retry=rules)])
    return Case(f"a6-{name}", definition, {}, None, "failed", None, "FailureType", None, {"bad": attempts})


def a6_retries() -> list[Case]:
    """Attempt counts of all kinds of rule lists."""
    quick = {"backoff_s": 0.01, "max_backoff_s": 0.05}
    return [
        a6_retry(
            "third-rule",
            4,
            Retry(max_attempts=9, retry_on=("A",), **quick),
            Retry(max_attempts=9, retry_on=("B",), **quick),
            Retry(max_attempts=4, retry_on=("FailureType",), **quick),
        ),
        a6_retry("max-0", 1, Retry(max_attempts=1, **quick)),
        a6_retry("empty", 1),
    ]


def a6_catch() -> Case:
    """Three retries, then a handler for everything."""
    bad = node("bad", "fail_always", retry=(Retry(max_attempts=4, backoff_s=0.01, max_backoff_s=0.05),))
    return Case(
        name="a6-catch",
        definition=workflow(
            [bad, node("next"), node("handler")], edge("bad", "next"), edge("bad", "handler", on="failed"), start=("bad",)
        ),
        completed={"handler": 1},
        failed_attempts={"bad": 4},
    )


def a7() -> Case:
    """A sequential fan-out stops at the first failure."""
    return Case(
        name="a7",
        definition=workflow(
            [node("first"), node("each", "fail_at_three", input={"value": "item"}), node("end")],
            edge("first", "each", foreach="input", group="g", max_concurrency=1),
            edge("each", "end", join=all_of("g")),
        ),
        input=[1, "Hello", {}, 3.3, 3, 4, 5],
        completed={"first": 1, "each": 4},
        status="failed",
        error_type="SomeFailure",
        failed_attempts={"each": 1},
    )


def a8_step() -> Case:
    """A step's own timeout fails the run."""
    return Case(
        name="a8-step",
        definition=workflow([node("long", timeout_s=0.5), node("end")], edge("long", "end")),
        completed={},
        status="failed",
        error_type="Timeout",
        failed_attempts={"long": 1},
        seconds={"long": 6.0},
    )


def a8_run() -> Case:
    """A run's timeout is a status of its own."""
    return Case(
        name="a8-run",
        definition=workflow("long end", edge("long", "end"), timeout_s=0.5),
        completed={},
        status="timed_out",
        error_type="RunTimeout",
        seconds={"long": 6.0},
    )


def s_cases() -> list[Case]:
    """All S cases."""
    return [
        *(s1(last) for last in ("f1", "f2", "f3", "g3a", "g3b")),
        *(s2(), s3(), s4(), s4(join=False), s5("a1"), s5("a3"), s6()),
        *(s9(), s9_without_join(), s9_partial()),
        *(s11(), s11("foo"), s11("f1"), s11_harder(), s11_harder_loop_bound()),
    ]


def a_cases() -> list[Case]:
    """All A cases."""
    return [
        *(a1_order(), a1_identity(), a2_nested_foreach(), a2_nested_split(), a2_limits()),
        *(a3(items) for items in ([], [0], [1, "two", True])),
        *(a4(items) for items in (1, "string", True, {"foo": "bar"}, None)),
        *(a5(handled=True), a5(handled=False), a5_node_handler()),
        *(a6_group_retry(), *a6_retries(), a6_catch(), a7(), a8_step(), a8_run()),
    ]
