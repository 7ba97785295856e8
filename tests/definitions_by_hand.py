"""Small definitions written by hand, and what the validator says of them: shared by its tests."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wonder_ray.definitions.files import definition_from_json
from wonder_ray.definitions.validation import validate

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.problems import Problem


def problems(document: dict[str, Any]) -> list[Problem]:
    return validate(definition_from_json({"name": "w"} | document, checked=False))


def only(document: dict[str, Any], severity: str = "error") -> Problem:
    found = [problem for problem in problems(document) if problem.severity == severity]
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def task(**fields: Any) -> dict[str, Any]:
    return {"action": "m:f"} | fields


def line(*nodes: str) -> list[dict[str, Any]]:
    """Transitions from each node to the next."""
    return [{"from": one, "to": other} for one, other in pairwise(nodes)]


def split_and_join(**changes: Any) -> dict[str, Any]:
    """a -> {b, c} in group g -> d; changes go to the join of c."""
    return {
        "nodes": {name: {} for name in "abcd"},
        "transitions": [
            {"from": "a", "to": ["b", "c"], "group": "g"},
            {"from": "b", "to": "d", "join": {"over": "g"}},
            {"from": "c", "to": "d", "join": {"over": "g"} | changes},
        ],
    }


def with_retry(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": {"a": task(retry=list(rules))}}


def with_steps(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": {"a": {"steps": [{"name": f"s{i}", "action": "m:f"} | step for i, step in enumerate(steps)]}}}


def with_edge(**fields: Any) -> dict[str, Any]:
    return {"nodes": {"a": task(), "b": task()}, "transitions": [{"from": "a", "to": "b"} | fields]}


def with_join(**fields: Any) -> dict[str, Any]:
    return {
        "nodes": {"a": {}, "b": {}, "c": {}},
        "transitions": [
            {"from": "a", "to": "b", "spawn_count": 2, "group": "g"},
            {"from": "b", "to": "c", "join": {"over": "g"} | fields},
        ],
    }


def node(**fields: Any) -> dict[str, Any]:
    return {"nodes": {"a": fields}}


def race(*targets: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """a -> t0, t1, ... which race."""
    names = [f"t{i}" for i in range(len(targets))]
    return {
        "nodes": {"a": {}} | dict(zip(names, targets, strict=True)),
        "transitions": [{"from": "a", "to": name, "race": "r"} for name in names[:-1]]
        + [{"from": "a", "to": names[-1], "race": "r"} | fields],
    }


A = {"nodes": {"a": task()}}


TIMER: dict[str, Any] = {"duration_s": 5}
SIGNAL: dict[str, Any] = {"kind": "wait_signal"}
UNDONE: dict[str, Any] = {"action": "m:undo"}


def named(case: Any) -> str:
    return str(case)[:60] if isinstance(case, str) else ""
