"""Parts of a run's index: what is ready or touched, what stands where in each scope, and who holds which lock.

>>> locks = Locks()
>>> locks.take("t_1", ("mutex:m",))
>>> locks.free("mutex:m", 1), locks.free("mutex:other", 1)
(False, True)
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, TypeVar

from wonder_ray.state import TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wonder_ray.state import Token

K = TypeVar("K")
_WAITING = TokenStatus.WAITING_FOR_SIBLINGS


Queue = list[tuple[int, str]]
"""A heap of (ordinal, token): in whatever order tokens were put in, they come out as they were made. So what is started next
follows from the records alone, not from what became of the index since it was built."""


class Touched:
    """What is to be looked at again, each once, in the order of its ordinals.

    >>> touched = Touched()
    >>> touched.add(2, "b"), touched.add(1, "a"), touched.add(2, "b")
    (None, None, None)
    >>> touched.pop(), touched.pop(), bool(touched)
    ('a', 'b', False)
    >>> touched.add(3, "c"), touched.clear(), bool(touched), touched.add(3, "c"), touched.pop()
    (None, None, False, None, 'c')
    """

    def __init__(self) -> None:
        self._heap: Queue = []
        self._ids: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def add(self, ordinal: int, id_: str) -> None:
        """Look at it, too."""
        if id_ not in self._ids:
            self._ids.add(id_)
            heapq.heappush(self._heap, (ordinal, id_))

    def pop(self) -> str:
        """The first one."""
        _, id_ = heapq.heappop(self._heap)
        self._ids.remove(id_)
        return id_

    def clear(self) -> None:
        """Look at none."""
        self._heap.clear()
        self._ids.clear()


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
        count(self.busy, scope_id, change)

    def hold(self, opener: Token, name: str, change: int) -> None:
        """An instance of a group is open, or no longer, in its opener's scope."""
        groups = self.groups.setdefault(opener.scope_id, {})
        count(groups, (opener.node_id, name), change)
        if not groups:
            del self.groups[opener.scope_id]
        self.touched.setdefault(opener.scope_id, {})[opener.node_id] = None
        self.work(opener.scope_id, change)


class Locks:
    """Who holds which lock (a mutex, or a concurrency key), and who has queued up for it."""

    def __init__(self) -> None:
        self.holders: dict[str, dict[str, None]] = {}
        """Lock -> live tokens that hold it: several where a lineage has split, or the lock admits several."""
        self.queues: dict[str, dict[str, None]] = {}
        """Lock -> tokens that wait for it, first come first."""

    def take(self, token_id: str, names: Iterable[str]) -> None:
        """A live token holds these."""
        for name in names:
            self.holders.setdefault(name, {})[token_id] = None

    def ask(self, token_id: str, names: Iterable[str]) -> None:
        """A token queues up for these."""
        for name in names:
            self.queues.setdefault(name, {})[token_id] = None

    def stop_asking(self, token_id: str, names: Iterable[str]) -> list[str]:
        """A token waits for these no longer; gives who may come first now."""
        for name in names:
            drop(self.queues, name, token_id)
        return self._heads(names)

    def release(self, token_id: str, names: Iterable[str]) -> list[str]:
        """A token has ended; gives who may come next."""
        for name in names:
            drop(self.holders, name, token_id)
        return self._heads(names)

    def _heads(self, names: Iterable[str]) -> list[str]:
        return [next(iter(queue)) for name in names if (queue := self.queues.get(name))]

    def free(self, name: str, most: int) -> bool:
        """Whether fewer than `most` tokens hold a lock."""
        return len(self.holders.get(name, ())) < most

    def is_next(self, token_id: str, name: str) -> bool:
        """Whether no other token has queued up for a lock before this one."""
        return next(iter(self.queues.get(name, ())), token_id) == token_id

    def put_in_order(self, tokens: dict[str, Token]) -> None:
        """First come first, after the tokens were loaded in the order of their creation."""
        for name, queue in self.queues.items():
            self.queues[name] = dict.fromkeys(sorted(queue, key=lambda token_id: tokens[token_id].wanted_at))


def count(counts: dict[K, int], key: K, change: int) -> None:
    """Change a count; what is 0 is not kept."""
    count = counts.get(key, 0) + change
    if count:
        counts[key] = count
    else:
        del counts[key]


def drop(found: dict[K, dict[str, None]], key: K, item: str) -> None:
    """Take an item out of a set of sets; what is empty is not kept."""
    items = found[key]
    del items[item]
    if not items:
        del found[key]


def passed(heap: list[tuple[int, str]], now_us: int) -> Iterator[tuple[int, str]]:
    """The entries of a heap whose time has come, in no order; looks at no more of it than at their successors.

    >>> sorted(passed([(1, "a"), (5, "b"), (2, "c")], 2))
    [(1, 'a'), (2, 'c')]
    """
    places = [0]
    while places:
        place = places.pop()
        if place < len(heap) and heap[place][0] <= now_us:
            yield heap[place]
            places += (2 * place + 1, 2 * place + 2)
