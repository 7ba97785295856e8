"""Large and pathological definitions: an answer in seconds, and "unknown" where that is the truth."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.cases.words import all_of, edge, node, workflow
from wonder_ray.soundness import check_soundness
from wonder_ray.soundness.counting import SIZE_MAX

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition

MANY = 10_000


def line(count: int) -> WorkflowDefinition:
    return workflow([node(f"n{i}") for i in range(count)], *(edge(f"n{i}", f"n{i + 1}") for i in range(count - 1)))


def test_what_was_not_seen_whole_is_unknown() -> None:
    found = check_soundness(line(50), states_max=20)
    assert (found.verdict, found.complete, found.reason, found.problems) == ("unknown", False, "gave up after 21 states", ())
    assert check_soundness(line(50), states_max=50).verdict == "sound"


def test_what_is_wrong_is_told_though_not_all_was_seen() -> None:
    definition = line(50)
    broken = definition.model_copy(update={"transitions": (*definition.transitions, edge("n0", "n1", group="g"))})
    found = check_soundness(broken, states_max=20)
    assert (found.verdict, found.complete) == ("unsound", False)
    assert {problem.kind for problem in found.problems} == {"never_joined"}


@pytest.mark.parametrize("shape", ["line", "wide"])
def test_ten_thousand_nodes_take_seconds(shape: str) -> None:
    """About 2 s; the bound is for busy machines."""
    definition = line(MANY)
    if shape == "wide":
        middle = [f"n{i}" for i in range(1, MANY - 1)]
        edges = [edge("n0", name, group="g") for name in middle] + [edge(n, f"n{MANY - 1}", join=all_of("g")) for n in middle]
        definition = definition.model_copy(update={"transitions": tuple(edges)})
    began = time.process_time()
    found = check_soundness(definition)
    assert time.process_time() - began < 10
    assert (found.verdict, found.problems) == ("unknown", ())


def test_a_step_that_may_come_out_in_a_million_ways_is_given_up() -> None:
    names = [f"n{i}" for i in range(20)]
    definition = workflow(["a", *names] and [node("a"), *map(node, names)], *(edge("a", n, when=f"state.{n}") for n in names))
    found = check_soundness(definition, states_max=300)
    assert (found.verdict, found.complete) == ("unknown", False)


def test_threads_without_end_are_given_up() -> None:
    definition = workflow("a b", edge("a", "a", spawn_count=2, when="state.x"), edge("a", "b", priority=1), start=("a",))
    assert check_soundness(definition, states_max=300).verdict == "unknown"


def test_groups_nested_without_end_are_given_up() -> None:
    count = 1_000
    edges = [edge(f"n{i}", f"n{i + 1}", group=f"g{i}") for i in range(count - 1)]
    found = check_soundness(workflow([node(f"n{i}") for i in range(count)], *edges))
    assert found.verdict == "unknown"
    assert "nested too deep" in (found.reason or "")


def test_a_fan_out_of_a_million_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    definition = workflow("a b", edge("a", "b", spawn_count=10**6))
    found = check_soundness(definition)
    assert found.verdict == "sound"
    assert found.states < SIZE_MAX
