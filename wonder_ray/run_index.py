"""What is derived from a run's records, so that no planning step has to look through all of them.

An `Index` is a function of the tokens, groups and fan-outs it was built from: `wonder_ray.fold` keeps it up to date event by
event, and a coordinator that reopens a run builds it anew. What has ended leaves it, so it grows with what is live only.

>>> Index({}, {}, {}).live
0
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, TypeVar

import msgspec

from wonder_ray.state import HELD_OPEN, TERMINAL_TOKEN, Fanout, Group, Token, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

K = TypeVar("K")
_WAITING = TokenStatus.WAITING_FOR_SIBLINGS
_PENDING = TokenStatus.PENDING


class Limit(msgspec.Struct):
    """How many branches of one fan-out are under way, against its `max_concurrency`; kept until the last branch has started."""

    most: int
    live: dict[int, int] = {}
    """Branch -> live tokens and open groups in it."""
    started: set[int] = set()
    """Branches that may run, or have ended."""
    running: set[int] = set()
    """Started branches with something live."""
    blocked: deque[str] = msgspec.field(default_factory=deque)
    """First tokens of branches that wait for their start, in order."""


class Places:
    """What stands where in each scope: kept only for runs whose definition has joins over `incoming`."""

    def __init__(self) -> None:
        self.at: dict[str, dict[str, dict[str, None]]] = {}
        """Scope -> node -> live tokens there; those that wait at a group's join have left their scope."""
        self.groups: dict[str, dict[tuple[str, str], int]] = {}
        """Scope -> (opener's node, group name) -> open instances."""
        self.busy: dict[str, int] = {}
        """Scope -> live tokens that do not wait at a join over `incoming`, and open groups."""
        self.touched: dict[str, dict[str, None]] = {}
        """Scope -> nodes where something came or went since the joins were last looked at."""

    def put(self, token: Token) -> None:
        """A live token stands at its node."""
        self.at.setdefault(token.scope_id, {}).setdefault(token.node_id, {})[token.id] = None
        self.touched.setdefault(token.scope_id, {})[token.node_id] = None
        if token.status is not _WAITING:
            self.work(token.scope_id, 1)

    def take(self, token: Token, *, worked: bool) -> None:
        """A token leaves its node, having worked there or only waited."""
        nodes = self.at[token.scope_id]
        tokens = nodes[token.node_id]
        del tokens[token.id]
        if not tokens:
            del nodes[token.node_id]
            if not nodes:
                del self.at[token.scope_id]
        self.touched.setdefault(token.scope_id, {})[token.node_id] = None
        if worked:
            self.work(token.scope_id, -1)

    def work(self, scope_id: str, change: int) -> None:
        """One thing more or less that can move on by itself."""
        _count(self.busy, scope_id, change)

    def hold(self, opener: Token, name: str, change: int) -> None:
        """An instance of a group is open, or no longer, in its opener's scope."""
        groups = self.groups.setdefault(opener.scope_id, {})
        _count(groups, (opener.node_id, name), change)
        if not groups:
            del self.groups[opener.scope_id]
        self.touched.setdefault(opener.scope_id, {})[opener.node_id] = None
        self.work(opener.scope_id, change)


class Index:
    """What is derived from the records of one run; it shares their dictionaries."""

    def __init__(self, tokens: dict[str, Token], groups: dict[str, Group], fanouts: dict[str, Fanout]) -> None:
        self._tokens = tokens
        self._groups = groups
        self._fanouts = fanouts
        self.live = 0
        """Tokens that have not ended."""
        self.waiting = 0
        """Those of them that wait at a join."""
        self.counts: Counter[tuple[str, TokenStatus]] = Counter()
        """(node, status) -> tokens."""
        self.members: dict[str, dict[str, None]] = {}
        """Group -> live tokens in it, arrivals included."""
        self.inner: dict[str, dict[str, None]] = {}
        """Group -> inner groups that are open, or have something live in them."""
        self.arrivals: dict[str, dict[str, None]] = {}
        """Join id -> tokens that wait at it, in order of arrival."""
        self.queues: dict[str, dict[str, dict[str, None]]] = {}
        """Join over `incoming` -> transition -> the tokens of `arrivals` that came over it, first in first out."""
        self.ready: dict[str, deque[str]] = {}
        """Node -> pending tokens that may run (may hold some that no longer are pending)."""
        self.limits: dict[str, Limit] = {}
        self.due: list[tuple[int, str]] = []
        """Heap of (time, token); stale entries are skipped."""
        self.places: Places | None = None
        self.to_route: deque[str] = deque()
        """Tokens that have ended and whose transitions have not been looked at; empty between turns."""
        self.touched_groups: dict[str, None] = {}
        self.touched_joins: dict[str, None] = {}
        self.touched_limits: dict[str, None] = {}

    # --- tokens --------------------------------------------------------------------------------------------------

    def enter(self, token: Token) -> None:
        """Index a live token that is new, or that has just been loaded."""
        self.live += 1
        self.counts[token.node_id, token.status] += 1
        if token.group_id is not None:
            self._add_member(token.group_id, token.id)
        if token.status is _WAITING:
            self.waiting += 1
            if self._await(token):
                return
        if self.places is not None:
            self.places.put(token)
        if self.limits and token.fanout_id is not None:
            self._hold(token.fanout_id, token.index)
        if token.due_us is not None:
            heapq.heappush(self.due, (token.due_us, token.id))
        if token.status is _PENDING:
            self.make_ready(token)

    def leave(self, token: Token) -> None:
        """Take a token that is about to end out of the index; its status is still the old one."""
        self.live -= 1
        if token.group_id is not None:
            self._drop_member(token.group_id, token.id)
        if token.status is not _WAITING:
            self._leave_scope(token, worked=True)
            return
        self.waiting -= 1
        join_id = token.join_id or ""
        _drop(self.arrivals, join_id, token.id)
        if join_id not in self._groups:
            queues = self.queues[join_id]
            _drop(queues, token.transition_id or "", token.id)
            if not queues:
                del self.queues[join_id]
            self._leave_scope(token, worked=False)

    def arrive(self, token: Token) -> None:
        """Index a token that has begun to wait at its `join_id`; its status is already the new one."""
        self.waiting += 1
        if self._await(token):
            self.touched_groups[token.join_id or ""] = None
            self._leave_scope(token, worked=True)
        elif self.places is not None:
            self.places.work(token.scope_id, -1)

    def _await(self, token: Token) -> bool:
        """Note where a token waits; whether that is at a group's join, so that it has left its scope."""
        join_id = token.join_id or ""
        if join_id in self._groups:
            self.arrivals.setdefault(join_id, {})[token.id] = None
            return True
        # Ordered ones, since these are taken from the front: a plain dict walks over all that was there to find its first.
        self.arrivals.setdefault(join_id, OrderedDict())[token.id] = None
        self.queues.setdefault(join_id, {}).setdefault(token.transition_id or "", OrderedDict())[token.id] = None
        self.touched_joins[join_id] = None
        return False

    def _leave_scope(self, token: Token, *, worked: bool) -> None:
        if self.places is not None:
            self.places.take(token, worked=worked)
        if self.limits and token.fanout_id is not None:
            self._release(token.fanout_id, token.index)

    def move(self, token: Token, to: TokenStatus) -> None:
        """Change a status and what is counted by it."""
        counts = self.counts
        counts[token.node_id, token.status] -= 1
        if token.join_id is None or to not in TERMINAL_TOKEN:  # arrivals that a join has consumed were no work of its node
            counts[token.node_id, to] += 1
        token.status = to

    def make_ready(self, token: Token) -> None:
        """Queue a pending token, or hold it back until its branch may start."""
        limit = self.limits.get(token.fanout_id) if token.fanout_id is not None else None
        if limit is not None and token.index not in limit.started:
            limit.blocked.append(token.id)
            self.touched_limits[token.fanout_id or ""] = None
            return
        self.ready.setdefault(token.node_id, deque()).append(token.id)

    def pending(self, node_id: str) -> deque[str]:
        """The tokens of a node that may run, first come first; the head of the queue is pending."""
        queue = self.ready.get(node_id)
        if queue is None:
            return deque()
        while queue and self._tokens[queue[0]].status is not _PENDING:
            queue.popleft()
        if not queue:
            del self.ready[node_id]
        return queue

    def passed(self, now_us: int) -> Iterator[tuple[int, str]]:
        """The entries of `due` whose time has come, in no order; looks at no more of the heap than at their successors."""
        heap = self.due
        places = [0]
        while places:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= now_us:
                yield heap[place]
                places += (2 * place + 1, 2 * place + 2)

    def drop_stale_due(self) -> None:
        """Let the head of `due` be something that still is due."""
        heap = self.due
        while heap and not self.is_due(*heap[0]):
            heapq.heappop(heap)

    def is_due(self, due_us: int, token_id: str) -> bool:
        """Whether an entry of `due` still holds."""
        token = self._tokens[token_id]
        return token.due_us == due_us and token.status not in TERMINAL_TOKEN

    # --- groups --------------------------------------------------------------------------------------------------

    def open_group(self, group: Group) -> None:
        """Index a group that is open; it counts as live in the scope, branch and group of its opener."""
        opener = self._tokens[group.opener_id]
        self._show(group)
        if self.places is not None:
            self.places.hold(opener, group.name, 1)
        if self.limits and opener.fanout_id is not None:
            self._hold(opener.fanout_id, opener.index)

    def shut_group(self, group: Group) -> None:
        """Take a group that is no longer open out of the index; it stays an inner group while something in it is live."""
        opener = self._tokens[group.opener_id]
        self._hide(group)
        if self.places is not None:
            self.places.hold(opener, group.name, -1)
        if self.limits and opener.fanout_id is not None:
            self._release(opener.fanout_id, opener.index)

    def _add_member(self, group_id: str, token_id: str) -> None:
        members = self.members.get(group_id)
        if members is not None:
            members[token_id] = None
            return
        self.members[group_id] = {token_id: None}
        self._show(self._groups[group_id])

    def _drop_member(self, group_id: str, token_id: str) -> None:
        members = self.members[group_id]
        del members[token_id]
        if not members:
            del self.members[group_id]
            self._hide(self._groups[group_id])

    def _show(self, group: Group) -> None:
        """Enter a group among the inner ones of its parent, and that among those of its own."""
        while group.parent_id is not None:
            siblings = self.inner.get(group.parent_id)
            if siblings is not None:
                siblings[group.id] = None
                return
            self.inner[group.parent_id] = {group.id: None}
            group = self._groups[group.parent_id]

    def _hide(self, group: Group) -> None:
        """The reverse of `_show`, for groups that are not open and hold nothing."""
        while group.status not in HELD_OPEN and group.id not in self.members and group.id not in self.inner:
            if group.parent_id is None or group.id not in self.inner.get(group.parent_id, ()):
                return
            _drop(self.inner, group.parent_id, group.id)
            group = self._groups[group.parent_id]

    # --- limits --------------------------------------------------------------------------------------------------

    def frames(self, fanout_id: str | None, index: int | None) -> Iterator[tuple[Fanout, int]]:
        """The fan-out branches around a token, innermost first."""
        while fanout_id is not None and index is not None:
            fanout = self._fanouts[fanout_id]
            yield fanout, index
            fanout_id, index = fanout.outer_id, fanout.outer_index

    def add_limit(self, fanout: Fanout) -> None:
        """Begin to count a fan-out's branches."""
        if fanout.max_concurrency is not None and fanout.count:
            self.limits[fanout.id] = Limit(most=fanout.max_concurrency)

    def _hold(self, fanout_id: str, index: int | None) -> None:
        for fanout, branch in self.frames(fanout_id, index):
            limit = self.limits.get(fanout.id)
            if limit is not None:
                limit.live[branch] = limit.live.get(branch, 0) + 1
                if branch in limit.started:
                    limit.running.add(branch)

    def _release(self, fanout_id: str, index: int | None) -> None:
        for fanout, branch in self.frames(fanout_id, index):
            limit = self.limits.get(fanout.id)
            if limit is not None:
                _count(limit.live, branch, -1)
                if branch not in limit.live:
                    limit.running.discard(branch)
                    self.touched_limits[fanout.id] = None

    def admit(self) -> None:
        """Start branches of limited fan-outs as far as their limits allow, in branch order."""
        touched = self.touched_limits
        while touched:
            fanout_id = next(iter(touched))
            del touched[fanout_id]
            limit = self.limits.get(fanout_id)
            if limit is None:
                continue
            while limit.blocked and len(limit.running) < limit.most:
                self._start(limit, self._tokens[limit.blocked.popleft()])
            if len(limit.started) == self._fanouts[fanout_id].count:
                del self.limits[fanout_id]

    def _start(self, limit: Limit, token: Token) -> None:
        branch = -1 if token.index is None else token.index
        limit.started.add(branch)
        if token.status is _PENDING:
            limit.running.add(branch)
            self.make_ready(token)

    # --- building ------------------------------------------------------------------------------------------------

    def build(self, *, places: bool) -> None:
        """Derive all of it from the records; called once, on an empty index."""
        if places:
            self.places = Places()
        for fanout in self._fanouts.values():
            self.add_limit(fanout)
        if self.limits:
            for token in self._tokens.values():
                self._mark_started(token)
        for group in self._groups.values():
            if group.status in HELD_OPEN:
                self.open_group(group)
                self.touched_groups[group.id] = None
        for token in sorted(self._tokens.values(), key=lambda token: token.ordinal):
            if token.status in TERMINAL_TOKEN:
                self.counts[token.node_id, token.status] += token.join_id is None
            else:
                self.enter(token)
        self.touched_limits.update(dict.fromkeys(self.limits))

    def follow_places(self) -> None:
        """Begin to keep `places`."""
        self.places = Places()
        for group in self._groups.values():
            if group.status in HELD_OPEN:
                self.places.hold(self._tokens[group.opener_id], group.name, 1)
        for token in self._tokens.values():
            waits_at_group = token.status is _WAITING and token.join_id in self._groups
            if token.status not in TERMINAL_TOKEN and not waits_at_group:
                self.places.put(token)

    def _mark_started(self, token: Token) -> None:
        """A branch has started when its first token has ever been dispatched, or has ended, or waits at a join."""
        if token.status is _PENDING and token.attempt == 0:
            return
        for fanout, branch in self.frames(token.fanout_id, token.index):
            limit = self.limits.get(fanout.id)
            if limit is not None:
                limit.started.add(branch)


def _count(counts: dict[K, int], key: K, change: int) -> None:
    """Change a count; what is 0 is not kept."""
    count = counts.get(key, 0) + change
    if count:
        counts[key] = count
    else:
        del counts[key]


def _drop(found: dict[K, dict[str, None]], key: K, item: str) -> None:
    """Take an item out of a set of sets; what is empty is not kept."""
    items = found[key]
    del items[item]
    if not items:
        del found[key]
