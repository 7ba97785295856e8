"""Where tokens go when they end: which transitions fire, and what they make (R1, R2, R3, R6), and what a failure does (R10)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tests.simulation.audit.merging import Merging
from tests.simulation.audit.model import RUN_ENDED, escaped
from tests.simulation.audit.reading import INCOMING, Edge, UndefinedError
from tests.simulation.violations import require

if TYPE_CHECKING:
    from tests.simulation.audit.model import MGroup, MToken

Error = dict[str, Any]
EXPRESSION = {"type": "ExpressionError", "message": "", "kind": "expression"}
LOOP = {"type": "LoopBoundExceeded", "message": "", "kind": "loop"}
NOT_OPEN = {"type": "GroupNotOpen", "message": "", "kind": "join"}
UNBOUNDED = 2**62


class NoSplitError(Exception):
    """The transitions cannot fire; the error becomes that of the node they leave."""

    def __init__(self, error: Error) -> None:
        super().__init__(error["type"])
        self.error = error


class Routing(Merging):
    """The rules of splits and failures."""

    # --- which transitions ---------------------------------------------------------------------------------------

    def select(
        self, source: MToken, outcome: str, error: Error | None = None, of_group: str | None = None
    ) -> tuple[list[Edge], bool]:
        """The lowest tier with a match; and whether a used-up bound held something back."""
        exhausted = False
        for tier in self.reading.tiers(source.node, outcome, of_group):
            fired = []
            for edge in tier:
                if edge.error_type is not None and (error is None or error["type"] != edge.error_type):
                    continue
                scope = self.model.scope_of(source, source.result, error)
                if edge.spec.when is not None and not self.reading.is_true(edge.spec.when, scope):
                    continue
                if self.model.taken.get((source.scope, edge.id), 0) >= _or_unbounded(edge.spec.max_iterations):
                    exhausted = True
                    continue
                fired.append(edge)
            if fired:
                return fired, False
        return [], exhausted

    def route_all(self) -> None:
        """What has ended is looked at in the order in which it ended."""
        while self.to_route and self.model.status not in RUN_ENDED:
            token, error = self.to_route.popleft()
            self._route(token, error)

    def _route(self, token: MToken, error: Error | None) -> None:
        if error is not None:
            self.failure_of(token, error)
            return
        try:
            edges, exhausted = self.select(token, "completed")
            if edges:
                self.split(token, edges, None)
                return
        except UndefinedError:
            self.failure_of(token, EXPRESSION)
            return
        except NoSplitError as refused:
            self.failure_of(token, refused.error)
            return
        if exhausted:
            self.failure_of(token, LOOP)

    # --- a split -------------------------------------------------------------------------------------------------

    def split(self, source: MToken, edges: list[Edge], cause: Error | None) -> None:
        """Read what the transitions that fire together make; raises `NoSplitError`, having read nothing, when they cannot."""
        counts = [self._size(source, edge, cause) for edge in edges]
        bound = [self._bound(source, edge) for edge in edges]
        splits = len(edges) > 1 or any(edge.fans_out or edge.group for edge in edges)
        opened = self._read_groups(source, edges)
        joined: dict[str, int] = {}
        branch = 0
        for edge, (count, items), target in zip(edges, counts, bound, strict=True):
            for group_id in self._read_edge(source, edge, (count, items), target, opened, branch, cause, splits=splits):
                joined[group_id] = joined.get(group_id, 0) + 1
            branch += count
            if edge.spec.max_iterations is not None and not _is_late(target):
                key = (source.scope, edge.id)
                self.model.taken[key] = self.model.taken.get(key, 0) + 1
        self._grow(
            source, joined, [group_id for name, group_id in opened.items() if group_id not in self._enlarged(source, name)]
        )
        if splits and (source.group is not None or opened):
            self.count("R1")

    def _size(self, source: MToken, edge: Edge, cause: Error | None) -> tuple[int, list[Any] | None]:
        """How many branches, and the items they are made for (R6: over no list there are none, and the node has failed)."""
        if not edge.fans_out:
            return 1, None
        scope = self.model.scope_of(source, source.result, cause)
        try:
            if edge.spec.foreach is None:
                return self.reading.count(edge.spec.spawn_count or 0, scope), None
            items = self.reading.evaluate(edge.spec.foreach, scope)
        except UndefinedError:
            raise NoSplitError(EXPRESSION) from None
        if not isinstance(items, list):
            self.count("R6")
            raise NoSplitError(EXPRESSION)
        return len(items), items

    def _bound(self, source: MToken, edge: Edge) -> MGroup | str | None:
        """The instance that a joining transition leads to: the nearest of its name (R3)."""
        if edge.join is None or edge.join.over == INCOMING:
            return None
        if edge.join.over == edge.group:
            return "own"
        self.count("R3")
        group = self.model.nearest(source.group, edge.join.over)
        if group is None:
            raise NoSplitError(NOT_OPEN)
        return group

    def _enlarged(self, source: MToken, name: str) -> tuple[str, ...]:
        """The innermost instance around the source, if a split that names it enlarges it."""
        group = self.model.groups.get(source.group or "")
        return (group.id,) if group is not None and group.name == name and group.status == "open" else ()

    def _read_groups(self, source: MToken, edges: list[Edge]) -> dict[str, str]:
        opened: dict[str, str] = {}
        for edge in edges:
            name = edge.group
            if name is None or name in opened:
                continue
            enlarged = self._enlarged(source, name)
            if enlarged:
                opened[name] = enlarged[0]
                continue
            row = self.take(
                "R1",
                "group.opened",
                name=name,
                token_id=source.id,
                parent_id=source.group,
                tolerated=edge.spec.tolerated_failures,
            )
            opened[name] = row["group_id"]
        return opened

    def _read_edge(
        self,
        source: MToken,
        edge: Edge,
        made: tuple[int, list[Any] | None],
        bound: MGroup | str | None,
        opened: dict[str, str],
        branch: int,
        cause: Error | None,
        *,
        splits: bool,
    ) -> list[str]:
        """Read the tokens of one transition; the groups that they are in."""
        count, items = made
        group_id = opened[edge.group] if edge.group is not None else source.group
        if bound is not None and not isinstance(bound, str):
            if bound.status != "open":
                self._late(source, edge, bound, count, branch, splits=splits)
                return []
            group_id = bound.id
        cause_type = None if cause is None else cause["type"]
        if edge.fans_out:
            row = self.take(
                "R1", "fan_out.started", token_id=source.id, node_id=edge.target, path_id=source.path, transition_id=edge.id,
                count=count, first_branch=branch, items=items, item_name=edge.spec.item if items is not None else "item",
                group_id=group_id, scoped=edge.group is not None, max_concurrency=edge.spec.max_concurrency,
            )  # fmt: skip
            made_tokens = [token for token in self.model.tokens.values() if token.fanout == row["fanout_id"]]
            if not count:
                self.count("R6")
        else:
            path = f"{source.path}.{escaped(source.node)}.{branch}" if splits else source.path
            row = self.take(
                "R1", "token.created", node_id=edge.target, path_id=path, parent_id=source.id, transition_id=edge.id,
                group_id=group_id, fanout_id=source.fanout, index=source.index,
            )  # fmt: skip
            made_tokens = [self.model.tokens[row["token_id"]]]
        for token in made_tokens:
            scope = token.id if edge.group is not None else source.scope
            require(token.scope == scope, "R9", f"{token} must write to scope {scope!r}")
            require((token.cause or {}).get("type") == cause_type, "R10", f"{token} must know of the error {cause_type}")
        if edge.join is not None:
            for token in made_tokens:
                join_id = f"incoming:{edge.target}:{token.scope}" if edge.join.over == INCOMING else group_id
                self.take("R3", "token.waiting", token_id=token.id, join_id=join_id)
        return [] if group_id is None else [group_id] * len(made_tokens)

    def _grow(self, source: MToken, joined: dict[str, int], opened: list[str]) -> None:
        """The sizes of groups (R1): a successor takes over its source's place, every other one adds a member."""
        if opened and source.group is not None:
            joined[source.group] = joined.get(source.group, 0) + len(opened)
        for group_id, count in joined.items():
            self.model.groups[group_id].size += count - 1 if group_id == source.group else count

    def _late(self, source: MToken, edge: Edge, group: MGroup, count: int, branch: int, *, splits: bool) -> None:
        """Arrivals after the join has fired follow its `remaining` (R2)."""
        join = self.reading.group_join[group.name]
        self.count("R2", count)
        if group.status != "passing":
            return
        if join.spec.remaining != "pass":
            self.broken("R2", f"the join over {group} lets nothing pass", self.peek())
        for nth in range(count):
            path = f"{source.path}.{escaped(source.node)}.{branch + nth}" if splits else source.path
            self.read_passing(group, join, path, self.as_late(source, edge, path))

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
            if of_run is not None and self.next_kind() == "workflow.failed":
                break  # what fails with the run is cancelled with it
            row = self.take("R10", "group.failed", group_id=group.id)
            require(row["error"]["type"] == error["type"], "R10", f"{group} must fail with {error['type']}: {row['error']}")
            self._check_empty(group)
        if of_run is not None:
            self.take_cancels("R10", lambda _token: True, lambda _group: True)
            row = self.take("R10", "workflow.failed")
            require(row["error"]["type"] == of_run["type"], "R10", f"the run must fail with {of_run['type']}: {row['error']}")

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
            return self.reading.count(join.spec.m or 0, self.model.scope_of(self.model.tokens[group.opener]))
        except UndefinedError:
            return group.size


def _or_unbounded(bound: int | None) -> int:
    return UNBOUNDED if bound is None else bound


def _is_late(bound: MGroup | str | None) -> bool:
    return bound is not None and not isinstance(bound, str) and bound.status != "open"
