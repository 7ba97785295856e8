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
from wonder_ray.run_places import passed
from wonder_ray.state import GOING_RUN, ROOT_SCOPE, Child, Fanout, Group, Kept, Run, RunStatus, Token, TokenStatus, Undo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.run_places import Queue


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
        self.kept: dict[str, Kept] = {}
        """Signals and answers that nobody has consumed, in the order in which they came."""
        self.children: dict[str, Child] = {}
        """Child runs that have not ended."""
        self.undos: dict[str, Undo] = {}
        """Work that can be taken back, by the token that did it, in the order in which it was done."""
        self.now_us = 0
        """The time of the turn that is being planned: no part of the state, and never stored."""
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
        return self.index.limits.frames(fanout_id, index)

    def bound_group(self, group_id: str | None, name: str) -> Group | None:
        """The nearest enclosing instance of a named group (rule R3)."""
        while group_id is not None:
            group = self.groups[group_id]
            if group.name == name:
                return group
            group_id = group.parent_id
        return None

    def next_due_us(self) -> int | None:
        """When something is due next: a retry, a timeout, a timer, an escalation; the run's own timeout included.

        In a paused run only attempts that are under way, and the run itself, run out of time.
        """
        self.index.drop_stale_due()
        if self.run.status is RunStatus.PAUSED:
            times = [due_us for due_us, item in self.index.due if self.index.is_due(due_us, item) and self._is_attempt(item)]
        else:
            times = [self.index.due[0][0]] if self.index.due else []
        if self.run.deadline_us is not None and self.run.status in GOING_RUN:
            times.append(self.run.deadline_us)
        return min(times, default=None)

    def due_tokens(self, now_us: int) -> list[Token]:
        """Live tokens whose `due_us` has passed, earliest first."""
        return [self.tokens[item] for item in self.due_items(now_us) if item in self.tokens]

    def due_items(self, now_us: int) -> list[str]:
        """Live tokens and open groups whose `due_us` has passed, earliest first."""
        found = sorted(set(passed(self.index.due, now_us)))
        return [item for due_us, item in found if self.index.is_due(due_us, item)]

    def is_due(self, item: str) -> bool:
        """Whether a live token's, or an open group's, `due_us` has passed at `now_us`."""
        token = self.tokens.get(item)
        due_us = self.groups[item].due_us if token is None else token.due_us
        return due_us is not None and due_us <= self.now_us and self.index.is_due(due_us, item)

    def _is_attempt(self, item: str) -> bool:
        token = self.tokens.get(item)
        return token is not None and token.status is TokenStatus.DISPATCHED

    def child_of(self, token: Token) -> Child | None:
        """The child run that a token waits for."""
        if token.status is not TokenStatus.WAITING_FOR_CHILD:
            return None
        return self.children.get(token.child_id or "")

    def pending(self, node_id: str) -> Queue:
        """The tokens of a node that may run; the head of the queue is pending."""
        return self.index.pending(node_id)

    def admit(self) -> None:
        """Start branches of limited fan-outs as far as their limits allow, in branch order."""
        self.index.limits.admit()

    # --- loading and comparing -----------------------------------------------------------------------------------

    def rebuild_index(self) -> None:
        """Derive `index` anew from the records, as after loading them."""
        old = self.index
        self.index = Index(self.tokens, self.groups, self.fanouts)
        self.index.inline = old.inline
        self.index.build(places=old.places is not None)
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
            "kept": {key: msgspec.to_builtins(kept) for key, kept in self.kept.items()},
            "children": {key: msgspec.to_builtins(child) for key, child in self.children.items()},
            "undos": {key: msgspec.to_builtins(undo) for key, undo in self.undos.items()},
        }
