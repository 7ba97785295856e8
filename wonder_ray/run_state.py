"""All of one run in memory: its records, and the index that keeps every planning step independent of the run's size.

`RunState.tokens`, `groups`, `fanouts`, `contexts`, `iterations`, `rounds` and `run` are the state (stored, folded, compared).
Everything in `RunState.index` is derived from them and can be rebuilt. Only `wonder_ray.fold` changes either.

>>> state = RunState(Run(run_id="run_x"))
>>> state.view("")["state"]
{}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.run_index import Index
from wonder_ray.state import ROOT_SCOPE, Fanout, Group, Run, Token

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator


class RunState:
    """One run: what `fold` rebuilds, planners read, and the store keeps."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tokens: dict[str, Token] = {}
        self.groups: dict[str, Group] = {}
        self.fanouts: dict[str, Fanout] = {}
        self.contexts: dict[str, dict[str, dict[str, Any]]] = {ROOT_SCOPE: {"state": {}, "output": {}}}
        """Scope -> its overlay; a top-level key of an overlay hides the same key of the scopes around it."""
        self.iterations: dict[tuple[str, str], int] = {}
        """(scope, transition) -> firings, for transitions with `max_iterations`."""
        self.rounds: dict[str, dict[str, None]] = {}
        """Join over `incoming` that has fired for some of its transitions -> those taken so far in this round."""
        self.index = Index(self.tokens, self.groups, self.fanouts)

    # --- reading -------------------------------------------------------------------------------------------------

    def view(self, scope_id: str) -> dict[str, dict[str, Any]]:
        """`{"state": ..., "output": ...}` as a branch sees them: its own writes over those around it. Not to be changed."""
        root = self.contexts[ROOT_SCOPE]
        chain = []
        while scope_id != ROOT_SCOPE:
            overlay = self.contexts.get(scope_id)
            if overlay is not None:
                chain.append(overlay)
            scope_id = self.outer_scope(scope_id)
        if not chain:
            return root
        merged: dict[str, dict[str, Any]] = {"state": dict(root["state"]), "output": dict(root["output"])}
        for overlay in reversed(chain):
            merged["state"].update(overlay["state"])
            merged["output"].update(overlay["output"])
        return merged

    def outer_scope(self, scope_id: str) -> str:
        """The scope around a branch's scope: the one of the token that split."""
        parent = self.tokens[scope_id].parent_id
        return ROOT_SCOPE if parent is None else self.tokens[parent].scope_id

    def frames(self, fanout_id: str | None, index: int | None) -> Iterator[tuple[Fanout, int]]:
        """The fan-out branches around a token, innermost first."""
        return self.index.frames(fanout_id, index)

    def bound_group(self, group_id: str | None, name: str) -> Group | None:
        """The nearest enclosing instance of a named group (rule R3)."""
        while group_id is not None:
            group = self.groups[group_id]
            if group.name == name:
                return group
            group_id = group.parent_id
        return None

    def next_due_us(self) -> int | None:
        """When the next retry or timeout is due, the run's own included."""
        self.index.drop_stale_due()
        times = [self.index.due[0][0]] if self.index.due else []
        if self.run.deadline_us is not None and self.run.ended_us is None:
            times.append(self.run.deadline_us)
        return min(times, default=None)

    def due_tokens(self, now_us: int) -> list[Token]:
        """Live tokens whose `due_us` has passed, earliest first."""
        passed = sorted(set(self.index.passed(now_us)))
        return [self.tokens[token_id] for due_us, token_id in passed if self.index.is_due(due_us, token_id)]

    def pending(self, node_id: str) -> deque[str]:
        """The tokens of a node that may run, first come first; the head of the queue is pending."""
        return self.index.pending(node_id)

    def admit(self) -> None:
        """Start branches of limited fan-outs as far as their limits allow, in branch order."""
        self.index.admit()

    # --- loading and comparing -----------------------------------------------------------------------------------

    def rebuild_index(self) -> None:
        """Derive `index` anew from the records, as after loading them."""
        places = self.index.places is not None
        self.index = Index(self.tokens, self.groups, self.fanouts)
        self.index.build(places=places)
        self.index.touched_joins.update(dict.fromkeys(self.rounds))

    def durable(self) -> dict[str, Any]:
        """All that is stored, as plain data: equal for equal states, whatever history led there."""
        return {
            "run": msgspec.to_builtins(self.run),
            "tokens": {key: msgspec.to_builtins(token) for key, token in self.tokens.items()},
            "groups": {key: msgspec.to_builtins(group) for key, group in self.groups.items()},
            "fanouts": {key: msgspec.to_builtins(fanout) for key, fanout in self.fanouts.items()},
            "contexts": {key: value for key, value in self.contexts.items() if value["state"] or value["output"]},
            "iterations": {f"{scope}|{edge}": count for (scope, edge), count in self.iterations.items()},
            "rounds": {join_id: sorted(taken) for join_id, taken in self.rounds.items()},
        }
