"""The part of a run's index that holds branches of fan-outs back, as `max_concurrency` says.

>>> limits = Limits({}, {}, lambda token: None)
>>> bool(limits), limits.blocked
(False, 0)
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from wonder_ray.run_places import count
from wonder_ray.state import TokenStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wonder_ray.state import Fanout, Token


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


class Limits:
    """The fan-outs with a limit that have branches left to start."""

    def __init__(self, tokens: dict[str, Token], fanouts: dict[str, Fanout], make_ready: Callable[[Token], None]) -> None:
        self._tokens = tokens
        self._fanouts = fanouts
        self._make_ready = make_ready
        self.of: dict[str, Limit] = {}
        """Fan-out -> its limit, until its last branch has started."""
        self.touched: dict[str, None] = {}
        """Those whose branches have ended, or come, since `admit`."""

    def __bool__(self) -> bool:
        return bool(self.of)

    @property
    def blocked(self) -> int:
        """Tokens that are held back."""
        return sum(len(limit.blocked) for limit in self.of.values())

    def block(self, token: Token) -> bool:
        """Hold a token back if its branch may not start yet; whether that is so."""
        limit = self.of.get(token.fanout_id) if token.fanout_id is not None else None
        if limit is None or token.index in limit.started:
            return False
        limit.blocked.append(token.id)
        self.touched[token.fanout_id or ""] = None
        return True

    def frames(self, fanout_id: str | None, index: int | None) -> Iterator[tuple[Fanout, int]]:
        """The fan-out branches around a token, innermost first."""
        while fanout_id is not None and index is not None:
            fanout = self._fanouts[fanout_id]
            yield fanout, index
            fanout_id, index = fanout.outer_id, fanout.outer_index

    def add(self, fanout: Fanout) -> None:
        """Begin to count a fan-out's branches."""
        if fanout.max_concurrency is not None and fanout.count:
            self.of[fanout.id] = Limit(most=fanout.max_concurrency)

    def hold(self, fanout_id: str, index: int | None) -> None:
        """Something live is in a branch, and so in those around it."""
        for fanout, branch in self.frames(fanout_id, index):
            limit = self.of.get(fanout.id)
            if limit is not None:
                limit.live[branch] = limit.live.get(branch, 0) + 1
                if branch in limit.started:
                    limit.running.add(branch)

    def release(self, fanout_id: str, index: int | None) -> None:
        """It has ended."""
        for fanout, branch in self.frames(fanout_id, index):
            limit = self.of.get(fanout.id)
            if limit is not None:
                count(limit.live, branch, -1)
                if branch not in limit.live:
                    limit.running.discard(branch)
                    self.touched[fanout.id] = None

    def admit(self) -> None:
        """Start branches of limited fan-outs as far as their limits allow, in branch order."""
        touched = self.touched
        while touched:
            fanout_id = next(iter(touched))
            del touched[fanout_id]
            limit = self.of[fanout_id]
            while limit.blocked and len(limit.running) < limit.most:
                self._start(limit, self._tokens[limit.blocked.popleft()])
            if len(limit.started) == self._fanouts[fanout_id].count:
                del self.of[fanout_id]

    def _start(self, limit: Limit, token: Token) -> None:
        branch = -1 if token.index is None else token.index
        limit.started.add(branch)
        if token.status is TokenStatus.PENDING:
            limit.running.add(branch)
            self._make_ready(token)

    def mark_started(self, token: Token) -> None:
        """A branch has started when its first token has ever been dispatched, or has ended, or waits at a join."""
        if token.status is TokenStatus.PENDING and token.attempt == 0 and not token.wanted:
            return
        for fanout, branch in self.frames(token.fanout_id, token.index):
            limit = self.of.get(fanout.id)
            if limit is not None:
                limit.started.add(branch)
