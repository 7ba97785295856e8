"""The short forms that people write by hand, brought to the one form of the models.

- `nodes` as a map from id to node; `kind` left out where a field tells it (`action`, `steps`, `workflow`, `signal`, `answer`,
  `duration_s`, `status`, ...), else it is `compute`;
- `num_cpus`, `num_gpus`, `memory`, `label_selector` and `runtime_env` on the node (or `undo`) itself; `undo: "shop:refund"`;
- `retry`, `merge`, `escalate`, `mutex`, `start`, `cancel`, ... single instead of as a list; `merge: state.pages`; `join: pages`;
- `from` and `to` as lists: a transition from each to each;
- a type, or the allowed values, instead of a schema: `answer: boolean`, `payload: integer`, `answer: [approve, reject]`;
- JSON values where an expression is expected: `input: {depth: 3}`, `foreach: [1, 2]`, `when: true`.

>>> expanded, _ = expand({"name": "w", "nodes": {"a": {"action": "m:f", "input": {"n": 3}}}})
>>> expanded["nodes"]
[{'id': 'a', 'kind': 'action', 'action': 'm:f', 'input': {'n': '3'}}]
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.limits import TRANSITIONS_MAX
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.problems import Place

_HOISTED = ("num_cpus", "num_gpus", "memory", "label_selector", "runtime_env")
_TOLD_BY: Final = (
    ("action", "action"),
    ("steps", "steps"),
    ("workflow", "subworkflow"),
    ("signal", "wait_signal"),
    ("payload", "wait_signal"),
    ("answer", "gate"),
    ("assignee", "gate"),
    ("escalate", "gate"),
    ("duration_s", "timer"),
    ("until", "timer"),
    ("status", "terminate"),
    ("error_type", "terminate"),
)
"""Field -> the kind of node that has it; the first that is there decides."""
_EFFECTS: Final = ("cancel", "cancel_groups", "complete_groups", "close_groups")


class Origins:
    """Where parts of the expanded form stood in what was written."""

    def __init__(self) -> None:
        self.nodes: list[str | int] = []
        self.transitions: list[int] = []

    def of(self, place: Place) -> Place:
        """The place in what was written."""
        if len(place) > 1 and isinstance(place[1], int):
            if place[0] == "nodes" and self.nodes:
                return ("nodes", self.nodes[place[1]], *place[2:])
            if place[0] == "transitions" and self.transitions:
                return ("transitions", self.transitions[place[1]], *place[2:])
        return place


def expand(document: dict[str, Any]) -> tuple[dict[str, Any], Origins]:
    """The document in the models' form, and where its parts came from. What is no short form is left as it is."""
    origins = Origins()
    found = dict(document)
    _listed(found, "start", str)
    _expressions(found, "output")
    if "nodes" in found:
        found["nodes"] = _nodes(found["nodes"], origins)
    if isinstance(found.get("transitions"), list):
        found["transitions"] = _transitions(found["transitions"], origins)
    return found, origins


def _nodes(nodes: Any, origins: Origins) -> Any:
    if isinstance(nodes, dict):
        origins.nodes = list(nodes)
        nodes = [_named(name, node) for name, node in nodes.items()]
    return [_node(node) for node in nodes] if isinstance(nodes, list) else nodes


def _named(name: str, node: Any) -> Any:
    if node is None:
        return {"id": name}
    return {"id": name} | node if isinstance(node, dict) else node


def _node(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    kind = next((kind for field, kind in _TOLD_BY if field in node), "compute")
    found: dict[str, Any] = {"id": node.get("id"), "kind": kind} | node
    if "id" not in node:
        del found["id"]
    _task(found)
    for field in ("input", "output"):
        _expressions(found, field)
    for field in ("guard", "concurrency_key", "assignee", "until"):
        _expression(found, field)
    for field in ("answer", "payload"):
        _schema(found, field)
    _listed(found, "mutex", str)
    _listed(found, "escalate", dict)
    if isinstance(found.get("escalate"), list):
        found["escalate"] = [_escalation(step) for step in found["escalate"]]
    if isinstance(found.get("steps"), list):
        found["steps"] = [_step(step) for step in found["steps"]]
    if isinstance(found.get("undo"), str | dict):
        found["undo"] = _undo(found["undo"])
    return found


def _task(found: dict[str, Any]) -> None:
    """What nodes and undos have that run as tasks."""
    resources = {name: found.pop(name) for name in _HOISTED if name in found}
    if resources and isinstance(found.get("resources", {}), dict):
        found["resources"] = resources | found.get("resources", {})
    _listed(found, "retry", dict)


def _undo(undo: str | dict[str, Any]) -> dict[str, Any]:
    found = {"action": undo} if isinstance(undo, str) else dict(undo)
    _task(found)
    _expressions(found, "input")
    return found


def _escalation(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    found = dict(step)
    _expression(found, "assignee")
    return found


def _schema(holder: dict[str, Any], field: str) -> None:
    given = holder.get(field)
    if isinstance(given, str | list):
        holder[field] = {"type": given} if isinstance(given, str) else {"enum": given}


def _listed(holder: dict[str, Any], field: str, of: type) -> None:
    """One thing alone stands for a list of it."""
    if isinstance(holder.get(field), of):
        holder[field] = [holder[field]]


def _step(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    found = dict(step)
    _expressions(found, "input")
    _expressions(found, "output")
    _expression(found, "when")
    return found


def _transitions(transitions: list[Any], origins: Origins) -> list[Any]:
    found: list[Any] = []
    for i, transition in enumerate(transitions):
        if (count := len(found) + _count(transition)) > TRANSITIONS_MAX:
            msg = f"transitions, {i}: with its lists, {count:,} transitions are more than {TRANSITIONS_MAX:,}; name fewer nodes"
            raise DefinitionError(msg)
        each = _transition(transition)
        found += each
        origins.transitions += [i] * len(each)
    return found


def _count(transition: Any) -> int:
    """How many transitions one is short for."""
    ends = (transition.get(key) for key in ("from", "to")) if isinstance(transition, dict) else ()
    return prod(max(1, len(end)) for end in ends if isinstance(end, list))


def _transition(transition: Any) -> list[Any]:
    if not isinstance(transition, dict):
        return [transition]
    found = dict(transition)
    _expression(found, "when")
    _expression(found, "foreach")
    for field in _EFFECTS:
        _listed(found, field, str)
    if "join" in found:
        found["join"] = _join(found["join"])
    sources, targets = (found[key] if isinstance(found.get(key), list) else None for key in ("from", "to"))
    if sources is None and targets is None:
        return [found]
    return [
        found | ({} if source is None else {"from": source}) | ({} if target is None else {"to": target})
        for source in sources or [None]
        for target in targets or [None]
    ]


def _join(join: Any) -> Any:
    if isinstance(join, str):
        return {"over": join}
    if not isinstance(join, dict) or "merge" not in join:
        return join
    merges = join["merge"] if isinstance(join["merge"], list) else [join["merge"]]
    return join | {"merge": [_merge(merge) for merge in merges]}


def _merge(merge: Any) -> Any:
    if isinstance(merge, str):
        return {"target": merge}
    found = dict(merge) if isinstance(merge, dict) else merge
    if isinstance(found, dict):
        _expression(found, "source")
    return found


def _expressions(holder: dict[str, Any], field: str) -> None:
    mapping = holder.get(field)
    if isinstance(mapping, dict):
        holder[field] = mapping = dict(mapping)
        for name in mapping:
            _expression(mapping, name)


def _expression(holder: dict[str, Any], field: str) -> None:
    """A JSON value is its own expression; nothing at all is left to be refused."""
    value = holder.get(field)
    if isinstance(value, bool | int | float | list | dict):
        holder[field] = json.dumps(value, ensure_ascii=False)
