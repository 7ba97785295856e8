"""The cases of data, failure, retry and timeout, A1 to A8."""

from __future__ import annotations

from typing import Any

from tests.cases.words import Case, all_of, append, edge, node, workflow
from wonder_ray.definitions.models import Retry, WorkflowDefinition


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
    given: dict[str, Any] = {"input": {"value": "input"}}
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
        [node("first"), node("good"), node("bad", "fail_always"), node("end"), *([handler] if handled else [])],
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
    quick: dict[str, Any] = {"backoff_s": 0.01, "max_backoff_s": 0.05}
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


def a_cases() -> list[Case]:
    """All A cases."""
    return [
        *(a1_order(), a1_identity(), a2_nested_foreach(), a2_nested_split(), a2_limits()),
        *(a3(items) for items in ([], [0], [1, "two", True])),
        *(a4(items) for items in (1, "string", True, {"foo": "bar"}, None)),
        *(a5(handled=True), a5(handled=False), a5_node_handler()),
        *(a6_group_retry(), *a6_retries(), a6_catch(), a7(), a8_step(), a8_run()),
    ]
