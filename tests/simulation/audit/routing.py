"""Where tokens go when they end, and what a failure does (R10)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tests.simulation.audit.model import GOING
from tests.simulation.audit.reading import GROUP_NAMES, Edge, UndefinedError
from tests.simulation.audit.splitting import EXPRESSION, LOOP, Error, NoSplitError, Splitting
from tests.simulation.violations import require

if TYPE_CHECKING:
    from tests.simulation.audit.model import MGroup, MToken
    from tests.simulation.audit.reading import JoinRule


class Routing(Splitting):
    """The rules of routes and failures."""

    def route_all(self) -> None:
        """What has ended is looked at in the order in which it ended."""
        while self.to_route and self.model.status in GOING:
            token, error = self.to_route.popleft()
            self._read_lost_race(token)
            self._route(token, error)
        self.go_on_ending()

    def _read_lost_race(self, token: MToken) -> None:
        """The first of the alternatives to end withdraws the others; one that is taken away itself decides nothing."""
        rivals = (
            []
            if token.race is None or token.status == "cancelled"
            else [other for other in self.model.live() if other.race == token.race]
        )
        for _ in rivals:
            self.take_token_cancel("R11", self.model.tokens[(self.peek() or {}).get("token_id", rivals[0].id)], routed=False)
        left = [rival for rival in rivals if rival.is_live]
        require(not left, "R11", f"{token} was first, and {left} is live")
        if rivals:
            self.count("R11")

    def _route(self, token: MToken, error: Error | None) -> None:
        if error is not None:
            self.failure_of(token, error)
            return
        outcome = "cancelled" if token.status == "cancelled" else "completed"
        if outcome == "completed" and self.reading.nodes[token.node].kind == "terminate":
            self.read_terminate(token)
            return
        try:
            edges, exhausted = self.select(token, outcome)
            if edges:
                self.split(token, edges, None)
                return
        except UndefinedError:
            self.failure_of(token, EXPRESSION)
            return
        except NoSplitError as refused:
            self.failure_of(token, refused.error)
            return
        if exhausted and outcome == "completed":
            self.failure_of(token, LOOP)

    # --- failures ------------------------------------------------------------------------------------------------

    def failure_of(self, token: MToken, error: Error) -> None:
        """A failed token goes to its node's handlers; else its group, and at last the run, takes it (R10)."""
        self.count("R10")
        outcomes = ("timed_out", "failed") if token.status == "timed_out" else ("failed",)
        try:
            for outcome in outcomes:
                edges, _ = self.select(token, outcome, error)
                if edges:
                    self.split(token, edges, error)
                    return
        except UndefinedError:
            error = EXPRESSION
        except NoSplitError as refused:
            error = refused.error
        self.escalate(token.group, error, token_id=token.id)

    def escalate(self, group_id: str | None, error: Error, *, token_id: str | None = None, forced: bool = False) -> None:
        """An unhandled failure rises through the groups around it. `forced`: the first group fails whatever it tolerates."""
        failing: list[tuple[MGroup, Error]] = []
        for group in self.model.chain(group_id):
            if group.status != "open":
                self._read_failures(failing, None)
                self.count("R2")
                return
            if not (forced and not failing) and group.failures < self.tolerance(group):
                self._read_failures(failing, None)
                self.take("R10", "group.failure_tolerated", group_id=group.id)
                return
            failing.append((group, error))
            edges, error = self._handlers(group, error)
            if edges:
                self._read_failures(failing, None)
                self._handle(group, edges, error)
                return
        self._read_failures(failing, error)

    def _handlers(self, group: MGroup, error: Error) -> tuple[list[Edge], Error]:
        """The transitions of the opener that take its group's failure; and the error that goes on where none does."""
        opener = self.model.tokens[group.opener]
        try:
            edges, _ = self.select(opener, "group_failed", error, group.name)
            for edge in edges:
                self._size(opener, edge, error)
                self._bound(opener, edge)
        except UndefinedError:
            return [], EXPRESSION
        except NoSplitError as refused:
            return [], refused.error
        return edges, error

    def _handle(self, group: MGroup, edges: list[Edge], error: Error) -> None:
        self.split(self.model.tokens[group.opener], edges, error)

    def _read_failures(self, failing: list[tuple[MGroup, Error]], of_run: Error | None) -> None:
        """Read that groups fail, their members having been cancelled; with an error of the run, that everything ends."""
        outermost = failing[-1][0].id if failing else ""
        for group, error in failing:
            self.take_cancels(
                "R10",
                lambda token: of_run is not None or self.model.is_within(token.group, outermost),
                lambda inner: of_run is not None or self.model.is_within(inner.id, outermost),
            )
            if of_run is not None and self.next_kind() != "group.failed":
                break  # what fails with the run is cancelled with it
            row = self.take("R10", "group.failed", group_id=group.id)
            require(row["error"]["type"] == error["type"], "R10", f"{group} must fail with {error['type']}: {row['error']}")
            self._check_empty(group)
        if of_run is not None:
            self.read_ending("failed", error=of_run["type"], compensate=True)

    def _check_empty(self, group: MGroup) -> None:
        """A group that has failed holds nothing live any more (R10, R11)."""
        left = self.model.members(group.id)
        require(not left, "R11", f"{group} has failed, and in it lives {left}")
        inner = [g for g in self.model.groups.values() if g.id != group.id and self.model.is_within(g.id, group.id)]
        held = [g for g in inner if g.status in {"open", "passing"}]
        require(not held, "R11", f"{group} has failed, and in it is open {held}")

    def tolerance(self, group: MGroup) -> int:
        """How many failures a group takes."""
        if isinstance(group.tolerated, float):
            return math.floor(group.tolerated * group.size + 1e-9)
        if group.tolerated is not None:
            return group.tolerated
        needed = self.needed(group)
        return 0 if needed is None else max(0, group.size - needed)

    def needed(self, group: MGroup) -> int | None:
        """How many arrivals a group's join fires at; None for `all` and where there is no join."""
        join = self.reading.group_join.get(group.name)
        if join is None or join.spec.strategy == "all":
            return None
        if join.spec.strategy == "any":
            return 1
        try:
            return self.threshold(group, join)
        except UndefinedError:
            return group.size

    def threshold(self, group: MGroup, join: JoinRule) -> int:
        """How many arrivals an `any` or `m_of_n` join fires at, as things stand; raises `UndefinedError`."""
        m = join.spec.m
        if join.spec.strategy == "any" or m is None:
            return 1
        scope = self.model.scope_of(self.model.tokens[group.opener])
        arrivals = self.model.waiting_at(group.id)
        scope["group"] = {
            "size": group.size, "arrived": len(arrivals), "active": self.model.active(group.id), "failures": group.failures
        }  # fmt: skip
        scope["results"] = [self.model.tokens[t.parent or ""].result for t in self.in_branch_order(arrivals)]
        return self.reading.count(m, scope, GROUP_NAMES)
