"""When the join of a group fires, is skipped or can no longer be met (R2, R4, R6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.audit.reading import UndefinedError
from tests.simulation.audit.routing import Routing
from tests.simulation.audit.splitting import EXPRESSION
from tests.simulation.violations import require

if TYPE_CHECKING:
    from tests.simulation.audit.model import MGroup, MToken
    from tests.simulation.audit.reading import JoinRule

UNMET = {"type": "JoinUnsatisfied", "message": "", "kind": "join"}


class Joins(Routing):
    """The rules of joins over groups."""

    # --- firing --------------------------------------------------------------------------------------------------

    def read_firing(self, group: MGroup) -> None:
        """Read that a group's join fires, now that it may."""
        join = self.reading.group_join[group.name]
        arrivals = self.model.waiting_at(group.id)
        needed = self._check_may_fire(group, join, arrivals)
        taken, extra = arrivals[:needed], arrivals[needed:]
        opener = self.model.tokens[group.opener]
        try:
            self.read_merges(group.id, join, opener.scope, self.branch_names(opener.path, self.in_branch_order(taken)))
        except UndefinedError as trouble:
            self.broken("R8", f"{group} cannot merge: {trouble}", self.peek())
        kept = {token.id for token in taken}
        if group.is_complete or (join.spec.remaining == "cancel" and join.spec.strategy != "all"):
            self.take_cancels(
                "R2",
                lambda token: self.model.is_within(token.group, group.id) and token.id not in kept,
                lambda inner: inner.id != group.id and self.model.is_within(inner.id, group.id),
            )
            left = [token for token in self.model.members(group.id) if token.id not in kept]
            require(not left, "R2", f"the join over {group} has fired and cancels the rest: {left} is live")
        passing = join.spec.remaining == "pass" and self.model.active(group.id) > 0 and not group.is_complete
        held = {name for token in taken for name in token.holds}
        if join.spec.strategy != "all" and (extra or self.model.active(group.id)):
            self.count("R2")
        self.take("R4", "fan_in.completed", join_id=group.id, node_id=join.node, arrivals=len(taken), passing=passing)
        self.count("R4")
        if not group.size:
            self.count("R6")
        self._read_join_token(group, join, self.handed_on(held, join.node))
        if join.spec.remaining == "pass":
            for token in extra:
                self._read_extra(group, join, token)

    def _check_may_fire(self, group: MGroup, join: JoinRule, arrivals: list[MToken]) -> int:
        """How many arrivals it fires with (R4)."""
        require(group.status == "open", "R4", f"{group} is not open, and its join fires")
        if group.is_complete:
            return len(arrivals)
        earlier = self.earlier_instances(group)
        require(not join.spec.blocking or not earlier, "R4", f"{group} must wait for {earlier}, and its join fires")
        if join.spec.strategy == "all":
            active = self.model.active(group.id)
            require(not active, "R4", f"{group} has {active} live members elsewhere, and its `all` join fires")
            require(not group.is_open, "R4", f"{group} may get more members, and its `all` join fires")
            has_cause = arrivals or not group.size or group.failures
            require(has_cause, "R4", f"nothing arrived at {group}, no failure was tolerated, and its join fires")
            return len(arrivals)
        try:
            needed = self.threshold(group, join)
        except UndefinedError as trouble:
            self.broken("R8", f"the m of {group} has no value, and its join fires: {trouble}", self.peek())
        require(len(arrivals) >= needed, "R4", f"the join over {group} needs {needed}, and fires with {len(arrivals)}")
        return needed

    def earlier_instances(self, group: MGroup) -> list[MGroup]:
        """Groups of the same name, opened before in the same branch, that have members left: what a blocking join waits for."""
        scope = self.model.tokens[group.opener].scope
        return [
            other
            for other in self.model.groups.values()
            if other.name == group.name
            and other.born < group.born
            and self.model.tokens[other.opener].scope == scope
            and (other.status == "open" or self.model.active(other.id))
        ]

    def _read_join_token(self, group: MGroup, join: JoinRule, holds: list[str]) -> None:
        """The join's token takes path, scope and membership of the opener (R3)."""
        opener = self.model.tokens[group.opener]
        self.take(
            "R3", "token.created", node_id=join.node, path_id=opener.path, parent_id=opener.id, transition_id=None,
            scope_id=opener.scope, group_id=opener.group, fanout_id=opener.fanout, index=opener.index, holds=holds,
        )  # fmt: skip
        self.count("R3")

    def _read_extra(self, group: MGroup, join: JoinRule, token: MToken) -> None:
        try:
            self.read_passing(group, join, token.path, token)
        except UndefinedError as trouble:
            self.broken("R8", f"{token} cannot merge what it brings: {trouble}", self.peek())

    def read_closing(self, group: MGroup) -> None:
        """Read that a group is closed: nothing is live in it, and its join has nothing to fire for."""
        join = self.reading.group_join.get(group.name)
        if group.is_complete and join is None:
            self.take_cancels(
                "R4", lambda token: self.model.is_within(token.group, group.id), lambda g: self.model.is_within(g.id, group.id)
            )
        active = self.model.active(group.id)
        require(not active, "R4", f"{group} has {active} live members, and is closed")
        may_grow = group.is_open and group.status == "open" and not group.is_complete
        require(not may_grow, "R4", f"{group} may get more members, and is closed")
        if group.status == "open" and join is not None:
            arrived = len(self.model.waiting_at(group.id))
            is_skipped = join.spec.strategy == "all" and not arrived and group.size and not group.failures
            require(is_skipped, "R4", f"{group}: {arrived} arrived, {group.failures} failed, and it is closed without firing")
        self.take("R4", "group.closed", group_id=group.id)
        self.count("R4")

    # --- what cannot come ----------------------------------------------------------------------------------------

    def read_unmet(self, group: MGroup, error: dict[str, Any]) -> None:
        """Read that a group fails of itself: its join can no longer be met, or cannot be evaluated."""
        join = self.reading.group_join.get(group.name)
        if join is None:
            self.broken("R10", f"{group} fails, and nothing in it has", self.peek())
        elif error["type"] == "JoinTimeout":
            is_due = group.due_us is not None and group.due_us <= self.now_us
            require(is_due and join.spec.on_timeout == "fail", "R4", f"{group} times out at {self.now_us}, and must not")
            self.escalate(group.id, error, forced=True)
        elif error["type"] == "JoinUnsatisfied":
            require(self.is_unmet(group, join), "R4", f"{group} can still be joined, and fails: {error}")
            self.count("R4")
            if not group.size:
                self.count("R6")
            self.escalate(group.id, UNMET, forced=True)
        else:
            require(self._is_undefined(group, join), "R8", f"{group} fails with {error}, and its join can be evaluated")
            self.escalate(group.id, EXPRESSION, forced=True)

    def is_unmet(self, group: MGroup, join: JoinRule) -> bool:
        """Whether an `any` or `m_of_n` join waits for what cannot come."""
        if join.spec.strategy == "all" or group.is_open or group.is_complete:
            return False
        arrived, active = len(self.model.waiting_at(group.id)), self.model.active(group.id)
        try:
            needed = self.threshold(group, join)
        except UndefinedError:
            return False
        return arrived < needed and (not active or (arrived + active < needed and not self._may_grow(group, join)))

    def _may_grow(self, group: MGroup, join: JoinRule) -> bool:
        """Whether more may arrive than there are live members: where one can still split, or fewer may be asked for."""
        m = join.spec.m
        if isinstance(m, str) and any(name in m for name in ("state", "output", "group", "results")):
            return True
        members = [token for token in self.model.live() if self.model.is_within(token.group, group.id)]
        if any(token.group != group.id for token in members):
            return True
        if any(inner.parent == group.id and inner.status in {"open", "passing"} for inner in self.model.groups.values()):
            return True
        return any(token.waits_at != group.id and self._may_split(token.node, group.name) for token in members)

    def _may_split(self, node: str, group: str) -> bool:
        """Whether a split can be reached from a node without joining over the group."""
        seen, stack = {node}, [node]
        while stack:
            here = stack.pop()
            leaving = self.reading.leaving[here]
            tiers = [(edge.outcome, edge.spec.priority) for edge in leaving]
            if any(edge.fans_out for edge in leaving) or len(set(tiers)) < len(tiers):
                return True
            for edge in leaving:
                joins = edge.join is not None and edge.join.over == group
                if not joins and edge.target not in seen:
                    seen.add(edge.target)
                    stack.append(edge.target)
        return False

    def _is_undefined(self, group: MGroup, join: JoinRule) -> bool:
        """Whether the join's `m` or its merges have no value."""
        opener = self.model.tokens[group.opener]
        arrivals = self.model.waiting_at(group.id)
        try:
            if join.spec.strategy != "all" and not group.is_complete:
                needed = self.threshold(group, join)
                if len(arrivals) < needed:
                    return False
                arrivals = arrivals[:needed]
            self.merged(opener.scope, join.merges, self.branch_names(opener.path, self.in_branch_order(arrivals)))
            for late in self.model.waiting_at(group.id) if join.spec.remaining == "pass" else ():
                self.merged(opener.scope, join.merges, self.branch_names(opener.path, [late]))
        except UndefinedError:
            return True
        return False

    def _check_held_back(self, group: MGroup, join: JoinRule | None) -> None:
        """A group that may get more members, or has to wait for an earlier one, may be ready and not have fired."""
        if join is None or (join.spec.blocking and self.earlier_instances(group)):
            return
        if group.is_open and join.spec.strategy == "all":
            return
        active, arrived = self.model.active(group.id), len(self.model.waiting_at(group.id))
        ready = not active if join.spec.strategy == "all" else arrived >= (self.needed(group) or 0)
        require(not ready, "R4", f"{group} is ready, held back by nothing, and has not fired")

    # --- what is left undone -------------------------------------------------------------------------------------

    def check_groups_settled(self) -> None:
        """Nothing waits for what cannot come, and nothing that may fire has not (R4)."""
        for group in self.model.groups.values():
            if group.status not in {"open", "passing"}:
                require(not self.model.waiting_at(group.id), "R4", f"tokens wait at {group}")
                continue
            active = self.model.active(group.id)
            join = self.reading.group_join.get(group.name)
            require(not group.is_complete, "R4", f"{group} is complete, and has neither fired nor been closed")
            if group.status == "open" and (group.is_open or (join is not None and join.spec.blocking)):
                self._check_held_back(group, join)
                continue
            require(active, "R4", f"{group} holds nothing live, and has neither fired nor been closed")
            if group.status == "passing" or join is None or join.spec.strategy == "all":
                continue
            if isinstance(join.spec.m, str) and ("state" in join.spec.m or "output" in join.spec.m):
                continue  # is evaluated when something arrives or ends, not when the context changes
            needed = self.needed(group)
            arrived = len(self.model.waiting_at(group.id))
            require(needed is None or arrived < needed, "R4", f"{group}: {arrived} have arrived, and its join has not fired")
            require(not self.is_unmet(group, join), "R4", f"{group}: its join can no longer be met, and waits")
