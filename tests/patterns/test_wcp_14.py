"""WCP-14, Multiple Instances with a priori Run-Time Knowledge: how many instances is known when the first of them starts.

What follows waits for all. Carried by `foreach` over data, or a computed `spawn_count`, with an `all` join. An empty list does
not hang (rule R6).
"""

from __future__ import annotations

import pytest

from tests.cases.words import all_of, append, edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(
    14, "Multiple Instances with a priori Run-Time Knowledge", "`foreach` with `all`; the empty list goes on at once"
)
DEFINITION = workflow(
    [node("a", input={"value": "input"}, output={"state.items": "result"}), node("each", input={"value": "item"}), "join"],
    edge("a", "each", foreach="state.items", group="g"),
    edge("each", "join", join=all_of("g", append("state.all"))),
    output={"all": "state.all"},
)


@pytest.mark.parametrize("items", [[], [7], [3, 1, 2], [1, "two", None, 4.5]])
def test_there_is_an_instance_per_element_and_the_join_waits_for_all(items: list[object]) -> None:
    for run in courses(DEFINITION, items):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "join": 1} | ({"each": len(items)} if items else {})
        assert run.in_order("each", "join")
        assert run.output == {"all": items}


@pytest.mark.parametrize("value", ["text", 3, None, {"a": 1}])
def test_what_is_no_list_fails_the_task_before_any_instance(value: object) -> None:
    for run in courses(DEFINITION, value):
        assert run.status == "failed"
        assert run.error is not None
        assert (run.error.type, run.error.node_id) == ("ExpressionError", "a")
        assert run.tokens("each") == []


def test_instances_within_instances_are_waited_for_level_by_level() -> None:
    definition = workflow(
        ["a", "row", node("cell", input={"value": "cell"}), "row_end", "end"],
        edge("a", "row", foreach="input", item="row", group="rows"),
        edge("row", "cell", foreach="row", item="cell", group="cells"),
        edge("cell", "row_end", join=all_of("cells", append("state.cells"))),
        edge("row_end", "end", join=all_of("rows", append("state.rows", "state.cells"))),
        output={"rows": "state.rows"},
    )
    for run in courses(definition, [[1, 2], [], [3]]):
        assert run.counts == {"a": 1, "row": 3, "cell": 3, "row_end": 3, "end": 1}
        assert run.output == {"rows": [[1, 2], [], [3]]}
        assert run.in_order("row_end", "end")


def test_a_computed_number_of_instances_may_be_none() -> None:
    definition = workflow(
        "a each join", edge("a", "each", spawn_count="size(input)", group="g"), edge("each", "join", join=all_of("g"))
    )
    for word in ("", "abc"):
        for run in courses(definition, word):
            assert run.status == "completed"
            assert (run.completed["each"], run.completed["join"]) == (len(word), 1)
