"""What is derived from a run's records, so that no planning step has to look through all of them.

An `Index` is a function of the tokens, groups and fan-outs it was built from: `wonder_ray.fold` keeps it up to date event by
event, and a coordinator that reopens a run builds it anew. What has ended leaves it, so it grows with what is live only.

>>> Index({}, {}, {}).live
0
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING

from wonder_ray.run_limits import Limits
from wonder_ray.run_places import Locks, Places, Queue, Touched, drop
from wonder_ray.state import HELD_OPEN, TERMINAL_TOKEN, WAITS, Fanout, Group, GroupStatus, Token, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

_WAITING = TokenStatus.WAITING_FOR_SIBLINGS
_PENDING = TokenStatus.PENDING
_DISPATCHED = TokenStatus.DISPATCHED
_RETRY = TokenStatus.WAITING_FOR_RETRY


class Index:
    """What is derived from the records of one run; it shares their dictionaries."""

    def __init__(  # noqa: PLR0915 - one statement per index
        self, tokens: dict[str, Token], groups: dict[str, Group], fanouts: dict[str, Fanout]
    ) -> None:
        self._tokens = tokens
        self._groups = groups
        self._fanouts = fanouts
        self.live = 0
        """Tokens that have not ended."""
        self.waiting = 0
        """Those of them that wait at a join."""
        self.counts: Counter[tuple[str, TokenStatus]] = Counter()
        """(node, status) -> tokens."""
        self.unstarted = 0
        """Live tokens that are pending."""
        self.under_way = 0
        """Live tokens that are dispatched, or wait for a retry."""
        self.members: dict[str, dict[str, None]] = {}
        """Group -> live tokens in it, arrivals included."""
        self.inner: dict[str, dict[str, None]] = {}
        """Group -> inner groups that are open, or have something live in them."""
        self.arrivals: dict[str, dict[str, None]] = {}
        """Join id -> tokens that wait at it, in order of arrival."""
        self.queues: dict[str, dict[str, dict[str, None]]] = {}
        """Join over `incoming` -> transition -> the tokens of `arrivals` that came over it, first in first out."""
        self.ready: dict[str, Queue] = {}
        """Node -> pending tokens that may run (may hold some that no longer are pending)."""
        self.inline: frozenset[str] = frozenset()
        """Nodes whose tokens a coordinator starts itself, without a task."""
        self.fresh: Queue = []
        """Pending tokens at those nodes that may run (as with `ready`)."""
        self.parked: dict[str, None] = {}
        """Pending tokens that a guard or a lock holds back: they are in no queue until something changes."""
        self.guarded: dict[str, None] = {}
        """Those of them that wait for their guard."""
        self.waits: dict[str, dict[str, None]] = {}
        """Node -> tokens that wait there for an answer, a signal or a time, first come first."""
        self.locks = Locks()
        self.races: dict[str, dict[str, None]] = {}
        """Race -> its live alternatives."""
        self.instances: dict[tuple[str, str], dict[str, None]] = {}
        """(group name, scope of the opener) -> groups that are open or have members left, oldest first."""
        self.open_groups: dict[str, None] = {}
        """Groups that members can be added to from outside."""
        self.at_node: dict[str, dict[str, None]] | None = None
        """Node -> live tokens; kept only for runs in which transitions cancel nodes."""
        self.context_changed = False
        """Whether something was written to the context since the guards were last looked at."""
        self.limits = Limits(tokens, fanouts, self._queue)
        self.due: list[tuple[int, str]] = []
        """Heap of (time, token or group); stale entries are skipped."""
        self.places: Places | None = None
        self.to_route: deque[str] = deque()
        """Tokens that have ended and whose transitions have not been looked at; empty between turns."""
        self.has_result: deque[str] = deque()
        """Tokens whose answer, signal, time or child's output has come, and whose work is so done."""
        self.has_failed: deque[str] = deque()  # since their child has
        self.touched_groups = Touched()
        self.touched_joins: dict[str, None] = {}

    # --- tokens --------------------------------------------------------------------------------------------------

    def enter(self, token: Token) -> None:
        """Index a live token that is new, or that has just been loaded."""
        self.live += 1
        self.counts[token.node_id, token.status] += 1
        self._begin(token, token.status)
        if token.group_id is not None:
            self._add_member(token.group_id, token.id)
        if token.race_id is not None or token.holds or token.wanted or self.at_node is not None:
            self._enter_rare(token)
        if token.status is _WAITING:
            self.waiting += 1
            if self._await(token):
                return
        if self.places is not None:
            self.places.put(token)
        if self.limits and token.fanout_id is not None:
            self.limits.hold(token.fanout_id, token.index)
        if token.due_us is not None:
            heapq.heappush(self.due, (token.due_us, token.id))
        if token.status is _PENDING:
            self.make_ready(token)

    def leave(self, token: Token) -> None:
        """Take a token that is about to end out of the index; its status is still the old one."""
        self.live -= 1
        if token.group_id is not None:
            self._drop_member(token.group_id, token.id)
        if token.race_id is not None or token.holds or token.wanted or self.at_node is not None:
            self._leave_rare(token)
        if self.parked:
            self.parked.pop(token.id, None)
            self.guarded.pop(token.id, None)
        if token.status is not _WAITING:
            self._leave_scope(token, worked=True)
            return
        self.waiting -= 1
        join_id = token.join_id or ""
        drop(self.arrivals, join_id, token.id)
        if join_id not in self._groups:
            queues = self.queues[join_id]
            drop(queues, token.transition_id or "", token.id)
            if not queues:
                del self.queues[join_id]
            self._leave_scope(token, worked=False)

    def _enter_rare(self, token: Token) -> None:
        """What most tokens have nothing to do with."""
        if token.race_id is not None:
            self.races.setdefault(token.race_id, {})[token.id] = None
        self.locks.take(token.id, token.holds)
        self.locks.ask(token.id, token.wanted)
        if self.at_node is not None:
            self.at_node.setdefault(token.node_id, {})[token.id] = None

    def _leave_rare(self, token: Token) -> None:
        if token.race_id is not None:
            drop(self.races, token.race_id, token.id)
        if self.at_node is not None:
            drop(self.at_node, token.node_id, token.id)
        self.unpark(self.locks.release(token.id, token.holds))
        self.unpark(self.locks.stop_asking(token.id, token.wanted))

    def arrive(self, token: Token) -> None:
        """Index a token that has begun to wait at its `join_id`; its status is already the new one."""
        self.waiting += 1
        if self._await(token):
            self.touch(token.join_id or "")
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
            self.limits.release(token.fanout_id, token.index)

    def move(self, token: Token, to: TokenStatus) -> None:
        """Change a status and what is counted by it."""
        was = token.status
        if was is _PENDING:
            self.unstarted -= 1
        elif was is _DISPATCHED or was is _RETRY:
            self.under_way -= 1
        elif was in WAITS:
            drop(self.waits, token.node_id, token.id)
        self._begin(token, to)
        counts = self.counts
        counts[token.node_id, token.status] -= 1
        if token.join_id is None or to not in TERMINAL_TOKEN:  # arrivals that a join has consumed were no work of its node
            counts[token.node_id, to] += 1
        token.status = to

    def _begin(self, token: Token, status: TokenStatus) -> None:
        """Count a live token by its new status."""
        if status is _DISPATCHED or status is _RETRY:
            self.under_way += 1
        elif status is _PENDING:
            self.unstarted += 1
        elif status in WAITS:
            self.waits.setdefault(token.node_id, {})[token.id] = None

    def make_ready(self, token: Token) -> None:
        """Queue a pending token, or hold it back until its branch may start."""
        if not self.limits or not self.limits.block(token):
            self._queue(token)

    def _queue(self, token: Token) -> None:
        queue = self.fresh if token.node_id in self.inline else self.ready.setdefault(token.node_id, [])
        heapq.heappush(queue, (token.ordinal, token.id))

    def park(self, token_id: str, *, guarded: bool = False) -> None:
        """A pending token that was taken out of its queue may not start yet."""
        self.parked[token_id] = None
        if guarded:
            self.guarded[token_id] = None

    def unpark(self, token_ids: Iterable[str]) -> None:
        """Something changed for these: look at them again."""
        for token_id in token_ids:
            if token_id in self.parked:
                del self.parked[token_id]
                self.guarded.pop(token_id, None)
                self.make_ready(self._tokens[token_id])

    def follow_inline(self, nodes: frozenset[str]) -> None:
        """Begin to queue tokens at these nodes apart, since no task is made for them."""
        self.inline = nodes
        self.fresh += [entry for node in nodes & self.ready.keys() for entry in self.ready.pop(node)]
        heapq.heapify(self.fresh)

    def follow_nodes(self) -> dict[str, dict[str, None]]:
        """Node -> live tokens; kept from now on."""
        if self.at_node is None:
            self.at_node = {}
            for token in self._tokens.values():
                if token.status not in TERMINAL_TOKEN:
                    self.at_node.setdefault(token.node_id, {})[token.id] = None
        return self.at_node

    def idle(self) -> bool:
        """Whether nothing is under way, and nothing can be started: what is live waits."""
        if self.under_way or self.fresh:
            return False
        if self.unstarted == len(self.parked):
            return True
        self.limits.admit()
        return self.unstarted == len(self.parked) + self.limits.blocked

    def pending(self, node_id: str) -> Queue:
        """The tokens of a node that may run; the head of the queue is pending."""
        queue = self.ready.get(node_id)
        if queue is None:
            return []
        while queue and self._tokens[queue[0][1]].status is not _PENDING:
            heapq.heappop(queue)
        if not queue:
            del self.ready[node_id]
        return queue

    def drop_stale_due(self) -> None:
        """Let the head of `due` be something that still is due."""
        heap = self.due
        while heap and not self.is_due(*heap[0]):
            heapq.heappop(heap)

    def is_due(self, due_us: int, token_id: str) -> bool:
        """Whether an entry of `due` still holds."""
        token = self._tokens.get(token_id)
        if token is not None:
            return token.due_us == due_us and token.status not in TERMINAL_TOKEN
        group = self._groups[token_id]
        return group.due_us == due_us and group.status is GroupStatus.OPEN

    # --- groups --------------------------------------------------------------------------------------------------

    def open_group(self, group: Group) -> None:
        """Index a group that is open; it counts as live in the scope, branch and group of its opener."""
        opener = self._tokens[group.opener_id]
        self._show(group)
        self.instances.setdefault((group.name, opener.scope_id), {})[group.id] = None
        if group.open:
            self.open_groups[group.id] = None
        if group.due_us is not None:
            heapq.heappush(self.due, (group.due_us, group.id))
        if self.places is not None:
            self.places.hold(opener, group.name, 1)
        if self.limits and opener.fanout_id is not None:
            self.limits.hold(opener.fanout_id, opener.index)

    def shut_group(self, group: Group) -> None:
        """Take a group that is no longer open out of the index; it stays an inner group while something in it is live."""
        opener = self._tokens[group.opener_id]
        self._hide(group)
        self.open_groups.pop(group.id, None)
        if not group.active:
            self.settle_instance(group)
        if self.places is not None:
            self.places.hold(opener, group.name, -1)
        if self.limits and opener.fanout_id is not None:
            self.limits.release(opener.fanout_id, opener.index)

    def settle_instance(self, group: Group) -> None:
        """A group has nothing left to come: a join that is blocking may fire for the next one of its name."""
        key = (group.name, self._tokens[group.opener_id].scope_id)
        instances = self.instances.get(key, {})
        if group.id in instances:
            drop(self.instances, key, group.id)
            for instance in instances:
                self.touch(instance)

    def touch(self, group_id: str) -> None:
        """Something about a group has changed: its join is to be looked at."""
        self.touched_groups.add(self._groups[group_id].ordinal, group_id)

    def is_first_instance(self, group: Group) -> bool:
        """Whether no earlier group of its name in the same branch has members left."""
        instances = self.instances.get((group.name, self._tokens[group.opener_id].scope_id), {})
        return next(iter(instances), group.id) == group.id

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
            drop(self.inner, group.parent_id, group.id)
            self.touch(group.parent_id)  # what was inside might have arrived at its join
            group = self._groups[group.parent_id]

    # --- building ------------------------------------------------------------------------------------------------

    def build(self, *, places: bool) -> None:
        """Derive all of it from the records; called once, on an empty index."""
        if places:
            self.places = Places()
        for fanout in self._fanouts.values():
            self.limits.add(fanout)
        if self.limits:
            for token in self._tokens.values():
                self.limits.mark_started(token)
        for group in self._groups.values():
            if group.status in HELD_OPEN:
                self.open_group(group)
                self.touch(group.id)
            elif group.active:
                self.instances.setdefault((group.name, self._tokens[group.opener_id].scope_id), {})[group.id] = None
        for token in sorted(self._tokens.values(), key=lambda token: token.ordinal):
            if token.status in TERMINAL_TOKEN:
                self.counts[token.node_id, token.status] += token.join_id is None
            else:
                self.enter(token)
        self.limits.touched.update(dict.fromkeys(self.limits.of))
        self.locks.put_in_order(self._tokens)
        for node, waiting in self.waits.items():
            self.waits[node] = dict.fromkeys(sorted(waiting, key=self._waits_since))
        self.context_changed = True  # guards are looked at anew

    def _waits_since(self, token_id: str) -> int:
        wait = self._tokens[token_id].wait
        return 0 if wait is None else wait.at

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
