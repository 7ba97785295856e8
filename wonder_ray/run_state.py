"""All of one run in memory: its records, and the indexes that keep every planning step independent of the run's size.

`RunState.tokens`, `groups`, `fanouts`, `contexts`, `iterations` and `run` are the state (stored, folded, compared). Everything in
`RunState.index` is derived from them and can be rebuilt. Only `wonder_ray.fold` changes either.

>>> state = RunState(Run(run_id="run_x"))
>>> state.view("")["state"]
{}
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.state import ROOT_SCOPE, TERMINAL_TOKEN, Fanout, Group, GroupStatus, Run, Token, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAITING = TokenStatus.WAITING_FOR_SIBLINGS


class Limit(msgspec.Struct):
    """How many branches of one fan-out are under way, against its `max_concurrency`."""

    most: int
    live: dict[int, int] = {}  # noqa: RUF012 - msgspec copies mutable defaults
    """Branch -> live tokens and open groups in it."""
    started: set[int] = set()  # noqa: RUF012 - msgspec copies mutable defaults
    running: set[int] = set()  # noqa: RUF012 - msgspec copies mutable defaults
    """Started branches with something live."""
    blocked: deque[str] = msgspec.field(default_factory=deque)
    """First tokens of branches that wait for their start, in order."""


class Index:
    """What is derived from the state."""

    def __init__(self) -> None:
        self.live = 0
        """Tokens that have not ended."""
        self.waiting = 0
        """Those of them that wait at a join."""
        self.counts: Counter[tuple[str, TokenStatus]] = Counter()
        """(node, status) -> tokens."""
        self.live_at: dict[str, dict[str, int]] = {}
        """Scope -> node -> live tokens there; those that wait at a group's join have left their scope."""
        self.open_groups: dict[str, dict[tuple[str, str], int]] = {}
        """Scope -> (opener's node, group name) -> open instances."""
        self.busy: Counter[str] = Counter()
        """Scope -> live tokens that do not wait at a join over `incoming`, and open groups."""
        self.members: dict[str, dict[str, None]] = {}
        """Group -> live tokens in it, arrivals included."""
        self.inner: dict[str, dict[str, None]] = {}
        """Group -> inner groups that are open, or have fired and still have members."""
        self.arrivals: dict[str, dict[str, None]] = {}
        """Join id -> tokens that wait at it, in order of arrival."""
        self.queues: dict[str, dict[str, dict[str, None]]] = {}
        """Join over `incoming` -> transition -> the tokens of `arrivals` that came over it, first in first out."""
        self.ready: dict[str, deque[str]] = {}
        """Node -> pending tokens that may run (may hold some that no longer are pending)."""
        self.limits: dict[str, Limit] = {}
        self.due: list[tuple[int, str]] = []
        """Heap of (time, token); stale entries are skipped."""
        self.to_route: deque[str] = deque()
        """Tokens that have ended and whose transitions have not been looked at; empty between turns."""
        self.touched_groups: dict[str, None] = {}
        self.touched_joins: dict[str, None] = {}
        self.touched_nodes: dict[str, dict[str, None]] = {}
        """Scope -> nodes where the number of live tokens (or open groups) changed, for joins over `incoming`."""
        self.touched_limits: dict[str, None] = {}


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
        self.index = Index()

    # --- reading -------------------------------------------------------------------------------------------------

    def view(self, scope_id: str) -> dict[str, dict[str, Any]]:
        """`{"state": ..., "output": ...}` as a branch sees them: its own writes over those around it. Not to be changed."""
        chain = [overlay for scope in self.scope_chain(scope_id) if (overlay := self.contexts.get(scope)) is not None]
        if len(chain) == 1:
            return chain[0]
        merged: dict[str, dict[str, Any]] = {"state": {}, "output": {}}
        for overlay in reversed(chain):
            merged["state"].update(overlay["state"])
            merged["output"].update(overlay["output"])
        return merged

    def scope_chain(self, scope_id: str) -> Iterator[str]:
        """The scope itself, then the scopes around it, the run's own last."""
        while scope_id != ROOT_SCOPE:
            yield scope_id
            scope_id = self.outer_scope(scope_id)
        yield ROOT_SCOPE

    def outer_scope(self, scope_id: str) -> str:
        """The scope around a branch's scope: the one of the token that split."""
        parent = self.tokens[scope_id].parent_id
        return ROOT_SCOPE if parent is None else self.tokens[parent].scope_id

    def frames(self, fanout_id: str | None, index: int | None) -> Iterator[tuple[Fanout, int]]:
        """The fan-out branches around a token, innermost first."""
        while fanout_id is not None and index is not None:
            fanout = self.fanouts[fanout_id]
            yield fanout, index
            fanout_id, index = fanout.outer_id, fanout.outer_index

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
        self._drop_stale_due()
        times = [self.index.due[0][0]] if self.index.due else []
        if self.run.deadline_us is not None and self.run.ended_us is None:
            times.append(self.run.deadline_us)
        return min(times, default=None)

    def due_tokens(self, now_us: int) -> list[Token]:
        """Live tokens whose `due_us` has passed, earliest first."""
        found = []
        for due_us, token_id in sorted(entry for entry in self.index.due if entry[0] <= now_us):
            token = self.tokens[token_id]
            if token.due_us == due_us and token.status not in TERMINAL_TOKEN:
                found.append(token)
        return found

    def pending(self, node_id: str) -> deque[str]:
        """The tokens of a node that may run, first come first; the head of the queue is pending."""
        queue = self.index.ready.get(node_id)
        if queue is None:
            return deque()
        while queue and self.tokens[queue[0]].status is not TokenStatus.PENDING:
            queue.popleft()
        if not queue:
            del self.index.ready[node_id]
        return queue

    def _drop_stale_due(self) -> None:
        heap = self.index.due
        while heap:
            due_us, token_id = heap[0]
            token = self.tokens[token_id]
            if token.due_us == due_us and token.status not in TERMINAL_TOKEN:
                return
            heapq.heappop(heap)

    # --- indexing (called by fold) -------------------------------------------------------------------------------

    def enter(self, token: Token) -> None:
        """Index a live token that is new, or that has just been loaded."""
        index = self.index
        index.live += 1
        index.counts[token.node_id, token.status] += 1
        if token.group_id is not None:
            index.members.setdefault(token.group_id, {})[token.id] = None
        index.waiting += token.status is _WAITING
        if token.status is _WAITING and token.join_id in self.groups:
            index.arrivals.setdefault(token.join_id, {})[token.id] = None
            return
        self._at_node(token.scope_id, token.node_id, 1)
        index.busy[token.scope_id] += 1
        if token.status is _WAITING:
            self._queue(token)
        if index.limits and token.fanout_id is not None:
            self._hold(token.fanout_id, token.index)
        if token.due_us is not None:
            heapq.heappush(index.due, (token.due_us, token.id))
        if token.status is TokenStatus.PENDING:
            self.make_ready(token)

    def make_ready(self, token: Token) -> None:
        """Queue a pending token, or hold it back until its branch may start."""
        limit = self.index.limits.get(token.fanout_id) if token.fanout_id is not None else None
        if limit is not None and token.index not in limit.started:
            limit.blocked.append(token.id)
            self.index.touched_limits[token.fanout_id or ""] = None
            return
        self.index.ready.setdefault(token.node_id, deque()).append(token.id)

    def leave(self, token: Token) -> None:
        """Take a token that is about to end out of the indexes; its status is still the old one."""
        index = self.index
        index.live -= 1
        if token.group_id is not None:
            index.members[token.group_id].pop(token.id, None)
        if token.status is not _WAITING:
            self._leave_scope(token)
            return
        index.waiting -= 1
        join_id = token.join_id or ""
        index.arrivals[join_id].pop(token.id, None)
        if join_id not in self.groups:
            index.queues[join_id][token.transition_id or ""].pop(token.id, None)
            index.busy[token.scope_id] += 1
            self._leave_scope(token)

    def arrive(self, token: Token) -> None:
        """Index a token that has begun to wait at its `join_id`; its status is already the new one."""
        join_id = token.join_id or ""
        self.index.waiting += 1
        if join_id in self.groups:
            self.index.arrivals.setdefault(join_id, {})[token.id] = None
            self.index.touched_groups[join_id] = None
            self._leave_scope(token)
        else:
            self._queue(token)

    def _queue(self, token: Token) -> None:
        """A token waits at a join over `incoming`: it stays in its scope, but is not busy."""
        index = self.index
        join_id = token.join_id or ""
        index.arrivals.setdefault(join_id, {})[token.id] = None
        index.queues.setdefault(join_id, {}).setdefault(token.transition_id or "", {})[token.id] = None
        index.touched_joins[join_id] = None
        index.busy[token.scope_id] -= 1

    def _at_node(self, scope_id: str, node_id: str, change: int) -> None:
        nodes = self.index.live_at.setdefault(scope_id, {})
        nodes[node_id] = nodes.get(node_id, 0) + change
        self.index.touched_nodes.setdefault(scope_id, {})[node_id] = None

    def _leave_scope(self, token: Token) -> None:
        self._at_node(token.scope_id, token.node_id, -1)
        self.index.busy[token.scope_id] -= 1
        if self.index.limits and token.fanout_id is not None:
            self._release(token.fanout_id, token.index)

    def move(self, token: Token, to: TokenStatus) -> None:
        """Change a status and what is counted by it."""
        counts = self.index.counts
        counts[token.node_id, token.status] -= 1
        counts[token.node_id, to] += 1
        token.status = to

    def open_group(self, group: Group) -> None:
        """Index a group that is open; it counts as live in the scope, branch and group of its opener."""
        opener = self.tokens[group.opener_id]
        self._group_at(opener, group.name, 1)
        if group.parent_id is not None:
            self.index.inner.setdefault(group.parent_id, {})[group.id] = None
        if self.index.limits and opener.fanout_id is not None:
            self._hold(opener.fanout_id, opener.index)

    def shut_group(self, group: Group) -> None:
        """Take a group that is no longer open out of the indexes (a fired one stays an inner group while it has members)."""
        opener = self.tokens[group.opener_id]
        self._group_at(opener, group.name, -1)
        if group.parent_id is not None and group.status is not GroupStatus.FIRED:
            self.index.inner[group.parent_id].pop(group.id, None)
        if self.index.limits and opener.fanout_id is not None:
            self._release(opener.fanout_id, opener.index)

    def _group_at(self, opener: Token, name: str, change: int) -> None:
        groups = self.index.open_groups.setdefault(opener.scope_id, {})
        key = (opener.node_id, name)
        groups[key] = groups.get(key, 0) + change
        self.index.busy[opener.scope_id] += change
        self.index.touched_nodes.setdefault(opener.scope_id, {})[opener.node_id] = None

    def add_limit(self, fanout: Fanout) -> None:
        """Begin to count a fan-out's branches."""
        if fanout.max_concurrency is not None:
            self.index.limits[fanout.id] = Limit(most=fanout.max_concurrency)

    def _hold(self, fanout_id: str, index: int | None) -> None:
        for fanout, branch in self.frames(fanout_id, index):
            limit = self.index.limits.get(fanout.id)
            if limit is not None:
                limit.live[branch] = limit.live.get(branch, 0) + 1
                if branch in limit.started:
                    limit.running.add(branch)

    def _release(self, fanout_id: str, index: int | None) -> None:
        for fanout, branch in self.frames(fanout_id, index):
            limit = self.index.limits.get(fanout.id)
            if limit is not None:
                limit.live[branch] -= 1
                if limit.live[branch] == 0:
                    limit.running.discard(branch)
                    self.index.touched_limits[fanout.id] = None

    def admit(self) -> None:
        """Start branches of limited fan-outs as far as their limits allow, in branch order."""
        touched = self.index.touched_limits
        while touched:
            fanout_id = next(iter(touched))
            del touched[fanout_id]
            limit = self.index.limits[fanout_id]
            while limit.blocked and len(limit.running) < limit.most:
                token = self.tokens[limit.blocked.popleft()]
                if token.status is not TokenStatus.PENDING or token.index is None:
                    continue
                limit.started.add(token.index)
                limit.running.add(token.index)
                self.index.ready.setdefault(token.node_id, deque()).append(token.id)

    def rebuild_index(self) -> None:
        """Derive `index` anew from the records, as after loading them."""
        self.index = Index()
        for fanout in self.fanouts.values():
            self.add_limit(fanout)
        tokens = sorted(self.tokens.values(), key=lambda token: token.ordinal)
        for token in tokens:
            self._mark_started(token)
        for group in self.groups.values():
            if group.status is GroupStatus.OPEN:
                self.open_group(group)
            elif group.status is GroupStatus.FIRED and group.parent_id is not None:
                self.index.inner.setdefault(group.parent_id, {})[group.id] = None
        for token in tokens:
            if token.status in TERMINAL_TOKEN:
                self.index.counts[token.node_id, token.status] += 1
            else:
                self.enter(token)
        self.index.touched_groups.update(dict.fromkeys(key for key, g in self.groups.items() if g.status is GroupStatus.OPEN))

    def _mark_started(self, token: Token) -> None:
        """A branch has started when its first token has ever been dispatched or has ended, or has successors."""
        if token.status is TokenStatus.PENDING and token.attempt == 0:
            return
        for fanout, branch in self.frames(token.fanout_id, token.index):
            limit = self.index.limits.get(fanout.id)
            if limit is not None:
                limit.started.add(branch)

    # --- comparing -----------------------------------------------------------------------------------------------

    def durable(self) -> dict[str, Any]:
        """All that is stored, as plain data: equal for equal states, whatever history led there."""
        return {
            "run": msgspec.to_builtins(self.run),
            "tokens": {key: msgspec.to_builtins(token) for key, token in self.tokens.items()},
            "groups": {key: msgspec.to_builtins(group) for key, group in self.groups.items()},
            "fanouts": {key: msgspec.to_builtins(fanout) for key, fanout in self.fanouts.items()},
            "contexts": {key: value for key, value in self.contexts.items() if value["state"] or value["output"]},
            "iterations": {f"{scope}|{edge}": count for (scope, edge), count in self.iterations.items()},
        }
