"""States as they are explored: copied without what has ended, and told apart by their shape only.

The shape of a state is what its future depends on: which tokens stand where, in which branches of which groups, and the counters
that matter. Ids, orders and values are left out, so that states that differ in nothing else are explored once.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from wonder_ray.fold import Folding
from wonder_ray.state import HELD_OPEN, ROOT_SCOPE, TERMINAL_TOKEN, GroupStatus, TokenStatus, incoming_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.state import Group, Token

_WAITING = TokenStatus.WAITING_FOR_SIBLINGS
Shape = tuple[Any, ...]


def live_tokens(state: Folding) -> list[Token]:
    """The tokens that have not ended, in the order of their creation."""
    return [token for token in state.tokens.values() if token.status not in TERMINAL_TOKEN]


def copy_live(state: Folding, *, due: str | None = None) -> Folding:
    """A copy that can go on: what is live, and of the rest only what that refers to.

    With `due`, the time has come for this group's join, or for this token's, to wait no longer.
    """
    keep = _Kept(state)
    for token in live_tokens(state):
        keep.token(token.id)
        if token.join_id in state.groups:
            keep.group(token.join_id)
    for group in state.groups.values():
        if group.status in HELD_OPEN:
            keep.group(group.id)
    copied = Folding(copy.copy(state.run))
    for ordinal, token in enumerate((t for t in state.tokens.values() if t.id in keep.tokens), 1):
        made = copied.tokens[token.id] = copy.copy(token)
        made.ordinal = ordinal
    for ordinal, group in enumerate((g for g in state.groups.values() if g.id in keep.groups), 1):
        copied.groups[group.id] = copy.copy(group)
        copied.groups[group.id].ordinal = ordinal
    for ordinal, fanout in enumerate((f for f in state.fanouts.values() if f.id in keep.fanouts), 1):
        copied.fanouts[fanout.id] = copy.copy(fanout)
        copied.fanouts[fanout.id].ordinal = ordinal
    if due is not None:
        waiting: Token | Group = copied.tokens.get(due) or copied.groups[due]
        waiting.due_us = 0
    scopes = {token.scope_id for token in copied.tokens.values()}
    copied.iterations = {key: count for key, count in state.iterations.items() if key[0] in scopes}
    copied.rounds = {join_id: dict(taken) for join_id, taken in state.rounds.items()}
    if state.index.places is not None:
        copied.index.follow_places()
    copied.rebuild_index()
    return copied


class _Kept:
    """What a copy needs."""

    def __init__(self, state: Folding) -> None:
        self._state = state
        self.tokens: set[str] = set()
        self.groups: set[str] = set()
        self.fanouts: set[str] = set()

    def token(self, token_id: str | None) -> None:
        """A token, its group and its fan-outs; its scope is known by a token, and so are the scopes around that."""
        while token_id is not None and token_id not in self.tokens:
            token = self._state.tokens.get(token_id)
            if token is None:
                return
            self.tokens.add(token.id)
            self.group(token.group_id)
            self._fanout(token.fanout_id)
            inherits = token.scope_id != token.id
            token_id = (token.scope_id or None) if inherits else token.parent_id  # the run's own scope is of no token

    def group(self, group_id: str | None) -> None:
        """A group, those around it, and their openers."""
        while group_id is not None and group_id not in self.groups:
            self.groups.add(group_id)
            group = self._state.groups[group_id]
            self.token(group.opener_id)
            group_id = group.parent_id

    def _fanout(self, fanout_id: str | None) -> None:
        while fanout_id is not None and fanout_id not in self.fanouts:
            self.fanouts.add(fanout_id)
            fanout_id = self._state.fanouts[fanout_id].outer_id


class Shapes:
    """The shapes of a state's branches and groups, and of the whole."""

    def __init__(self, state: Folding, sizes: Iterable[str], ordered: Iterable[str] = ()) -> None:
        """`sizes` are the groups whose exact size matters, `ordered` those whose instances fire in the order of their opening."""
        self._state = state
        self._sizes = frozenset(sizes)
        self._ordered = frozenset(ordered)
        self._tokens: dict[str, list[Token]] = {}
        self._opened: dict[str, list[Group]] = {}
        self._scopes: dict[str, set[str]] = {}
        self._iterations: dict[str, list[tuple[str, int]]] = {}
        self._blocks: dict[str, Shape] = {}
        self._groups: dict[str, Shape] = {}
        self._rank: dict[str, int] = {}
        """Token -> its place among those that wait for locks: first come, first served."""
        self._races: dict[str, list[str]] = {}
        """Race -> the nodes of its live alternatives."""
        self._collect()
        self.whole = self.block(ROOT_SCOPE)

    def _collect(self) -> None:
        state = self._state
        keep: dict[str, Group] = {}
        for token in live_tokens(state):
            group_id = token.group_id
            while group_id is not None and group_id not in keep:
                keep[group_id] = state.groups[group_id]
                group_id = state.groups[group_id].parent_id
            if token.status is _WAITING and token.join_id in state.groups and not token.holds:
                continue  # its group counts it
            if token.race_id is not None:
                self._races.setdefault(token.race_id, []).append(token.node_id)
            self._tokens.setdefault(token.scope_id, []).append(token)
            if token.group_id is not None:
                self._scopes.setdefault(token.group_id, set()).add(token.scope_id)
        for group in state.groups.values():
            if group.status in HELD_OPEN:
                keep.setdefault(group.id, group)
        for group in keep.values():
            opener = state.tokens[group.opener_id]
            self._opened.setdefault(opener.scope_id, []).append(group)
            if opener.group_id is not None:
                self._scopes.setdefault(opener.group_id, set()).add(opener.scope_id)
        asking = sorted(
            (token for tokens in self._tokens.values() for token in tokens if token.wanted), key=lambda t: t.wanted_at
        )
        self._rank = {token.id: rank for rank, token in enumerate(asking)}
        for (scope_id, edge_id), count in state.iterations.items():
            self._iterations.setdefault(scope_id, []).append((edge_id, count))

    def block(self, scope_id: str) -> Shape:
        """One branch: its tokens, its counters, and the groups that were opened in it."""
        found = self._blocks.get(scope_id)
        if found is None:
            rounds = [
                (incoming_place(join_id)[0], *sorted(taken))
                for join_id, taken in self._state.rounds.items()
                if incoming_place(join_id)[1] == scope_id
            ]
            found = self._blocks[scope_id] = (
                tuple(sorted(self._token(token) for token in self._tokens.get(scope_id, ()))),
                tuple(self._waiting_order(scope_id)),
                tuple(sorted(self._iterations.get(scope_id, ()))),
                tuple(sorted(rounds)),
                self._opened_in(scope_id),
            )
        return found

    def _opened_in(self, scope_id: str) -> Shape:
        groups = self._opened.get(scope_id, ())
        ordered = sorted((group for group in groups if group.name in self._ordered), key=lambda group: group.ordinal)
        return (
            *sorted(self._group(group) for group in groups if group.name not in self._ordered),
            *(self._group(group) for group in ordered),
        )

    def _token(self, token: Token) -> Shape:
        waits = token.transition_id or "" if token.status is _WAITING else ""
        rivals = tuple(sorted(self._races[token.race_id])) if token.race_id is not None else ()
        return (token.node_id, str(token.status), waits, token.holds, token.wanted, self._rank.get(token.id, -1), rivals)

    def _waiting_order(self, scope_id: str) -> list[str]:
        """Joins over `incoming` by their first arrival: where they wait for each other, the oldest fires."""
        waiting = [t for t in self._tokens.get(scope_id, ()) if t.status is _WAITING]
        return list(dict.fromkeys(token.node_id for token in sorted(waiting, key=lambda token: token.ordinal)))

    def _group(self, group: Group) -> Shape:
        """One instance of a group, and its branches."""
        found = self._groups.get(group.id)
        if found is not None:
            return found
        exact = group.name in self._sizes
        found = self._groups[group.id] = (
            group.name,
            self._state.tokens[group.opener_id].node_id,
            str(group.status),
            group.size if exact else min(group.size, 1),
            group.active,
            (group.arrived if exact else min(group.arrived, 1)) if group.status is GroupStatus.OPEN else 0,
            group.failures if exact else min(group.failures, 1),
            group.open,
            group.complete,
            tuple(sorted(self.block(scope_id) for scope_id in self._scopes.get(group.id, ()))),
        )
        return found

    def around(self, token: Token) -> Shape:
        """A token and all that is around it: tokens for which this is equal have equal futures."""
        found: list[Any] = [self._token(token)]
        scope_id, group_id = token.scope_id, token.group_id
        while group_id is not None:
            group = self._state.groups[group_id]
            found += [self.block(scope_id), self._group(group)]
            opener = self._state.tokens[group.opener_id]
            scope_id, group_id = opener.scope_id, opener.group_id
        return tuple(found)
