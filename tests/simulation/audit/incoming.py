"""Joins over `incoming`: queues, rounds, and what can still come (R5)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.simulation.audit.joins import UNMET, Joins
from tests.simulation.audit.model import HELD, WAITING, MToken, path_order
from tests.simulation.audit.reading import INCOMING, UndefinedError
from tests.simulation.audit.splitting import EXPRESSION
from tests.simulation.violations import require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.audit.reading import Edge, JoinRule

    Queues = dict[str, list[MToken]]
    """Transition -> the tokens that came over it and wait, first come first."""


class Incoming(Joins):
    """The rules of joins over `incoming`."""

    def place(self, join_id: str) -> tuple[JoinRule, str]:
        """The join and the scope of an instance."""
        _, node, scope = join_id.split(":")
        return self.reading.incoming_join[node], scope

    def queues(self, join_id: str) -> Queues:
        """What waits at an instance."""
        found: Queues = {}
        for token in self.model.waiting_at(join_id):
            found.setdefault(token.transition or "", []).append(token)
        return found

    # --- what can still come -------------------------------------------------------------------------------------

    def open_edges(self, node: str, scope: str, edges: Iterable[Edge]) -> list[Edge]:
        """Those of a join's transitions that a live token of the branch can still come over without passing through it."""
        reached = self._reached(node, scope)
        failing = {(self.model.tokens[g.opener].node, g.name) for g in self._held_in(scope)}
        return [
            edge
            for edge in edges
            if edge.group is None and (edge.source in reached or (edge.of_group and (edge.source, edge.of_group) in failing))
        ]

    def _held_in(self, scope: str) -> list[Any]:
        return [g for g in self.model.groups.values() if g.status in HELD and self.model.tokens[g.opener].scope == scope]

    def _reached(self, join_node: str, scope: str) -> set[str]:
        """The nodes that work of a branch can come to; what waits at the join's own node does not count."""
        reached: set[str] = set()
        for token in self.model.live():
            waits = token.status == WAITING
            if token.scope != scope or (waits and token.waits_at in self.model.groups) or (waits and token.node == join_node):
                continue
            reached.add(token.node)
        for group in self._held_in(scope):
            reached.update(
                node for node in self._after_group(self.model.tokens[group.opener].node, group.name) if node != join_node
            )
        stack = list(reached)
        while stack:
            for target in self._steps(stack.pop()):
                if target != join_node and target not in reached:
                    reached.add(target)
                    stack.append(target)
        return reached

    def _after_group(self, opener: str, name: str) -> list[str]:
        join = self.reading.group_join.get(name)
        handlers = [edge.target for edge in self.reading.leaving[opener] if edge.of_group == name and edge.group is None]
        return [*([] if join is None else [join.node]), *handlers]

    def _steps(self, node: str) -> list[str]:
        """Where a token of the same branch may come to next."""
        found = []
        for edge in self.reading.leaving[node]:
            if edge.group is not None:
                join = self.reading.group_join.get(edge.group)
                found += [] if join is None else [join.node]
            elif edge.join is None or edge.join.over == INCOMING:
                found.append(edge.target)
        return found

    def _others(self, node: str, taken: Iterable[str]) -> list[Edge]:
        left_out = set(taken)
        return [edge for edge in self.reading.entering[node] if edge.id not in left_out]

    def _is_idle(self, scope: str) -> bool:
        """Whether nothing but joins that wait for each other is left in a branch."""
        busy = [t for t in self.model.live() if t.scope == scope and t.status != WAITING]
        return not busy and not self._held_in(scope)

    # --- firing --------------------------------------------------------------------------------------------------

    def read_incoming_firing(self, join_id: str) -> None:
        """Read that an instance fires, with cancels and merges."""
        join, scope = self.place(join_id)
        node = join.node
        queues = self.queues(join_id)
        require(queues, "R5", f"nothing waits at {join_id}, and it fires")
        heads = sorted((queue[0] for queue in queues.values()), key=lambda token: token.born)
        in_round = self.model.rounds.get(join_id)
        if in_round is not None and self._is_overdue(join_id, join) and in_round.issuperset(queues):
            taken, round_open = heads, False  # of the next round, which waits no longer; this one stays open
        elif in_round is not None:
            late = [token for token in heads if token.transition not in in_round]
            require(join.spec.remaining == "pass" and late, "R5", f"{join_id} has fired in this round, and fires again")
            taken, round_open = late[:1], True
        elif join.spec.strategy == "all":
            blocking = self.open_edges(node, scope, self._others(node, queues))
            may_fire = not blocking or self._is_overdue(join_id, join) or self._is_first_rival(join_id, scope)
            require(may_fire, "R5", f"{join_id} fires, though {blocking} may still come")
            taken, round_open = heads, False
        elif len(queues) < self._needed_incoming(join, heads[0]) and self._is_overdue(join_id, join):
            taken, round_open = heads, False
        else:
            needed = self._needed_incoming(join, heads[0])
            require(len(queues) >= needed, "R5", f"{join_id} needs {needed} arrivals, and fires with {len(queues)}")
            taken = heads[:needed]
            rest = self._others(node, {token.transition or "" for token in taken})
            round_open = join.spec.remaining != "cancel" and bool(rest)
            if join.spec.remaining == "cancel":
                self._read_cancelled_rest(join_id, scope, rest, taken)
        self._read_taking(join_id, join, taken, round_open=round_open)

    def _read_taking(self, join_id: str, join: JoinRule, taken: list[MToken], *, round_open: bool) -> None:
        first = taken[0]
        branch = self.model.tokens.get(first.scope)
        try:
            self.read_merges(join_id, join, first.scope, self._named(join.node, taken))
        except UndefinedError as trouble:
            self.broken("R8", f"{join_id} cannot merge: {trouble}", self.peek())
        row = self.take("R5", "fan_in.completed", join_id=join_id, node_id=join.node, arrivals=len(taken), round_open=round_open)
        require(
            set(row["token_ids"]) == {t.id for t in taken}, "R5", f"{join_id} must take {taken}, the first of each queue: {row}"
        )
        self.take(
            "R3", "token.created", node_id=join.node, path_id="root" if branch is None else branch.path, parent_id=first.id,
            transition_id=None, scope_id=first.scope, group_id=first.group,
            fanout_id=None if branch is None else branch.fanout, index=None if branch is None else branch.index,
            holds=self.handed_on({name for token in taken for name in token.holds}, join.node),
        )  # fmt: skip
        self.count("R5")

    def _named(self, node: str, taken: list[MToken]) -> list[tuple[str, MToken]]:
        """Arrivals in branch order (here that of the transitions), with the names of their branches."""
        order = {edge.id: edge.order for edge in self.reading.edges}
        arrivals = sorted(taken, key=lambda token: (order[token.transition or ""], path_order(token.path)))
        return [(self._name(node, token.transition or ""), token) for token in arrivals]

    def _is_overdue(self, join_id: str, join: JoinRule) -> bool:
        """Whether an arrival has waited as long as it may, and what there is is enough."""
        waited = any(token.due_us is not None and token.due_us <= self.now_us for token in self.model.waiting_at(join_id))
        return waited and join.spec.on_timeout == "proceed_with_available"

    def _name(self, node: str, edge_id: str) -> str:
        sources = Counter(edge.source for edge in self.reading.entering[node])
        source = self.reading.edge[edge_id].source
        return source if sources[source] == 1 else edge_id

    def _needed_incoming(self, join: JoinRule, first: MToken) -> int:
        if join.spec.strategy == "any":
            return 1
        try:
            return max(1, self.reading.count(join.spec.m or 1, self.model.scope_of(first)))
        except UndefinedError as trouble:
            return self.broken("R5", f"the join at {join.node} fires, and its m has no value: {trouble}", self.peek())  # type: ignore[no-any-return] # raises

    def _read_cancelled_rest(self, join_id: str, scope: str, rest: list[Edge], taken: list[MToken]) -> None:
        """What waits at, or could still come over, the transitions that were not taken is withdrawn."""
        join, _ = self.place(join_id)
        nodes = self._leading_to([edge.source for edge in rest], join.node)
        late = {token.id for edge in rest for token in self.queues(join_id).get(edge.id, ())}
        groups = {
            g.id
            for g in self._held_in(scope)
            if not nodes.isdisjoint(self._after_group(self.model.tokens[g.opener].node, g.name))
        }
        kept = {token.id for token in taken}

        def goes(token: MToken) -> bool:
            left = token.status == WAITING and token.waits_at in self.model.groups
            in_scope = token.scope == scope and token.node in nodes and not left
            return token.id not in kept and (
                token.id in late or in_scope or any(self.model.is_within(token.group, g) for g in groups)
            )

        before = [token.id for token in self.model.live() if goes(token)]
        self.take_cancels("R5", lambda t: t.id in before, lambda g: any(self.model.is_within(g.id, outer) for outer in groups))
        left = [token_id for token_id in before if self.model.tokens[token_id].is_live]
        require(not left, "R5", f"{join_id} has fired and cancels the rest: {left} is live")

    def _leading_to(self, nodes: list[str], without: str) -> set[str]:
        """The nodes from which one of these can be reached without passing through one."""
        found = {node for node in nodes if node != without}
        while True:
            more = {n for n in self.reading.nodes if n != without and n not in found and not found.isdisjoint(self._steps(n))}
            if not more:
                return found
            found |= more

    # --- joins that wait for each other --------------------------------------------------------------------------

    def _is_first_rival(self, join_id: str, scope: str) -> bool:
        """Whether of joins that wait for each other this one comes first: it lies behind no other, and its arrival is oldest."""
        if not self._is_idle(scope):
            return False
        rivals: dict[str, MToken] = {}
        for token in sorted(self.model.live(), key=lambda token: token.arrived):
            if token.scope == scope and token.status == WAITING and token.waits_at not in self.model.groups:
                rivals.setdefault(token.node, token)
        ahead = self._ahead()
        first = [token for node, token in rivals.items() if not any(node in ahead[other] for other in rivals if other != node)]
        oldest = min(first, key=lambda token: token.born, default=None)
        return oldest is not None and oldest.waits_at == join_id

    def _ahead(self) -> dict[str, set[str]]:
        """Node -> the nodes that lie behind it, ways that lead back to where one came from being left out."""
        forward = self._forward()
        ahead: dict[str, set[str]] = {}
        for node in self.reading.nodes:
            seen: set[str] = set()
            stack = list(forward[node])
            while stack:
                here = stack.pop()
                if here not in seen:
                    seen.add(here)
                    stack.extend(forward[here])
            ahead[node] = seen
        return ahead

    def _forward(self) -> dict[str, list[str]]:
        forward: dict[str, list[str]] = {node: [] for node in self.reading.nodes}
        state: dict[str, str] = {}

        def visit(node: str) -> None:
            state[node] = "on the way"
            for target in dict.fromkeys(self._steps(node)):
                if target not in state:
                    forward[node].append(target)
                    visit(target)
                elif state[target] == "left":
                    forward[node].append(target)
            state[node] = "left"

        for node in (*self.reading.start, *self.reading.nodes):
            if node not in state:
                visit(node)
        return forward

    # --- rounds, and what cannot come ----------------------------------------------------------------------------

    def read_absorbed(self, join_id: str) -> None:
        """Read that late arrivals of a round end at the join."""
        join, _ = self.place(join_id)
        in_round = self.model.rounds.get(join_id)
        if in_round is None:
            self.broken("R5", f"no round of {join_id} is open", self.peek())
            return
        late = [queue[0] for edge, queue in self.queues(join_id).items() if edge not in in_round]
        self.count("R2", len(late))
        if join.spec.remaining == "pass":
            first = min(late, key=lambda token: token.born)
            names = [(self._name(join.node, first.transition or ""), first)]
            try:
                self.merged(first.scope, join.merges, names)
            except UndefinedError:
                self.take("R5", "fan_in.absorbed", join_id=join_id, token_ids=[first.id])
                self.escalate(first.group, EXPRESSION)
                return
            self.broken("R2", f"{first} may pass {join_id}, and does not", self.peek())
        row = self.take("R5", "fan_in.absorbed", join_id=join_id)
        require(set(row["token_ids"]) == {token.id for token in late}, "R5", f"{join_id} absorbs {late}: {row}")
        self.count("R5")

    def read_reset(self, join_id: str) -> None:
        """Read that a round is over: every transition was taken, or can bring nothing more."""
        join, scope = self.place(join_id)
        in_round = self.model.rounds.get(join_id)
        require(in_round is not None, "R5", f"no round of {join_id} is open")
        others = self._others(join.node, in_round or ())
        late = [edge for edge in others if edge.id in self.queues(join_id)]
        require(not late, "R5", f"{late} have brought something to {join_id}, and its round ends")
        blocking = self.open_edges(join.node, scope, others)
        require(not blocking or self._is_idle(scope), "R5", f"the round of {join_id} ends, though {blocking} may still come")
        self.take("R5", "fan_in.reset", join_id=join_id)
        self.count("R5")

    def times_out(self, join_id: str) -> bool:
        """Whether an arrival has waited as long as it may, so that its join fails."""
        join, _ = self.place(join_id)
        waited = any(token.due_us is not None and token.due_us <= self.now_us for token in self.model.waiting_at(join_id))
        return waited and join.spec.on_timeout == "fail"

    def read_given_up(self, join_id: str, *, timed_out: bool = False) -> None:
        """Read that what waits at an instance can never be joined: it ends, and the branch has a failure."""
        waiting = self.model.waiting_at(join_id)
        first = waiting[0]
        error = UNMET if self._is_unmet_here(join_id) else EXPRESSION
        if timed_out:
            error = {"type": "JoinTimeout", "message": "", "kind": "join"}
        ids = {token.id for token in waiting}
        while self.rows and self.rows[0].get("token_id") in ids and self.next_kind() == "token.cancelled":
            ids.discard(self.take("R5", "token.cancelled")["token_id"])
        require(not ids, "R5", f"{join_id} gives up, and {ids} still wait")
        self.count("R5")
        self.escalate(first.group, error)

    def gives_up(self, join_id: str) -> bool:
        """Whether what waits at an instance can never be joined: too little can come, or its expressions have no value."""
        join, _ = self.place(join_id)
        if join_id in self.model.rounds:
            return False
        return self._is_undefined_here(join, self.queues(join_id)) or self._is_unmet_here(join_id)

    def _is_unmet_here(self, join_id: str) -> bool:
        join, scope = self.place(join_id)
        queues = self.queues(join_id)
        if join.spec.strategy == "all" or self._is_undefined_here(join, queues):
            return False
        needed = self._needed_incoming(join, self.model.waiting_at(join_id)[0])
        more = [] if self._is_idle(scope) else self.open_edges(join.node, scope, self._others(join.node, queues))
        return len(queues) + len(more) < needed

    def _is_undefined_here(self, join: JoinRule, queues: Queues) -> bool:
        """Whether the join's `m`, or what it would merge now, has no value."""
        heads = sorted((queue[0] for queue in queues.values()), key=lambda token: token.born)
        try:
            if join.spec.strategy == "any":
                heads = heads[:1]
            elif join.spec.strategy == "m_of_n":
                needed = max(1, self.reading.count(join.spec.m or 1, self.model.scope_of(heads[0])))
                if len(heads) < needed:
                    return False
                heads = heads[:needed]
            self.merged(heads[0].scope, join.merges, self._named(join.node, heads))
        except UndefinedError:
            return True
        return False

    def check_incoming_settled(self) -> None:
        """No instance waits that may fire, give up, or end its round (R5)."""
        waiting = {t.waits_at for t in self.model.live() if t.status == WAITING and t.waits_at not in self.model.groups}
        for join_id in {*waiting, *self.model.rounds} - {None}:
            assert join_id is not None
            join, scope = self.place(join_id)
            queues = self.queues(join_id)
            in_round = self.model.rounds.get(join_id)
            others = self._others(join.node, queues if in_round is None else in_round)
            more = self.open_edges(join.node, scope, others)
            if in_round is not None:
                late = [edge for edge in others if edge.id in queues]
                require(not late, "R5", f"{late} wait at {join_id}, whose round is open")
                require(more, "R5", f"the round of {join_id} is open, and nothing can come any more")
            elif join.spec.strategy == "all":
                require(more, "R5", f"{join_id} waits, and nothing can come over its other transitions")
            else:
                needed = self._needed_incoming(join, self.model.waiting_at(join_id)[0])
                require(len(queues) < needed, "R5", f"{join_id} has {len(queues)} of {needed} arrivals, and waits")
                require(len(queues) + len(more) >= needed, "R5", f"{join_id} can no longer be met, and waits")
