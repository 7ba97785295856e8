"""The short forms that people write by hand, brought to the one form of the models.

- `nodes` as a map from id to node; `kind` left out (`action` and `steps` tell it, else it is `compute`);
- `num_cpus`, `num_gpus`, `memory`, `label_selector` and `runtime_env` on the node itself;
- `retry` and `merge` single instead of as a list; `merge: state.pages`; `join: pages`; `start: list`;
- `from` and `to` as lists: a transition from each to each;
- JSON values where an expression is expected: `input: {depth: 3}`, `foreach: [1, 2]`, `when: true`.

>>> expanded, _ = expand({"name": "w", "nodes": {"a": {"action": "m:f", "input": {"n": 3}}}})
>>> expanded["nodes"]
[{'id': 'a', 'kind': 'action', 'action': 'm:f', 'input': {'n': '3'}}]
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wonder_ray.definitions.checks.problems import Place

_HOISTED = ("num_cpus", "num_gpus", "memory", "label_selector", "runtime_env")


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
    if isinstance(found.get("start"), str):
        found["start"] = [found["start"]]
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
    kind = "action" if "action" in node else "steps" if "steps" in node else "compute"
    found: dict[str, Any] = {"id": node.get("id"), "kind": kind} | node
    if "id" not in node:
        del found["id"]
    resources = {name: found.pop(name) for name in _HOISTED if name in found}
    if resources and isinstance(found.get("resources", {}), dict):
        found["resources"] = resources | found.get("resources", {})
    if isinstance(found.get("retry"), dict):
        found["retry"] = [found["retry"]]
    _expressions(found, "input")
    _expressions(found, "output")
    if isinstance(found.get("steps"), list):
        found["steps"] = [_step(step) for step in found["steps"]]
    return found


def _step(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    found = dict(step)
    _expressions(found, "input")
    _expressions(found, "output")
    _expression(found, "when")
    return found


def _transitions(transitions: list[Any], origins: Origins) -> list[Any]:
    found = []
    for i, transition in enumerate(transitions):
        each = _transition(transition)
        found += each
        origins.transitions += [i] * len(each)
    return found


def _transition(transition: Any) -> list[Any]:
    if not isinstance(transition, dict):
        return [transition]
    found = dict(transition)
    _expression(found, "when")
    _expression(found, "foreach")
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
