"""Which transitions fire, and what they make (R1, R2, R3, R6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.audit.effects import Effects
from tests.simulation.audit.model import escaped
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


class Splitting(Effects):
    """The rules of splits."""

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

    # --- a split -------------------------------------------------------------------------------------------------

    def split(self, source: MToken, edges: list[Edge], cause: Error | None) -> None:
        """Read what the transitions that fire together make; raises `NoSplitError`, having read nothing, when they cannot."""
        counts = [self._size(source, edge, cause) for edge in edges]
        bound = [self._bound(source, edge) for edge in edges]
        if self.read_effects(source, edges):
            return
        races: dict[str, str | None] = {}
        splits = len(edges) > 1 or any(edge.fans_out or edge.group for edge in edges)
        opened = self._read_groups(source, edges)
        joined: dict[str, int] = {}
        branch = 0
        for edge, (count, items), target in zip(edges, counts, bound, strict=True):
            made = self._read_edge(source, edge, (count, items), target, opened, branch, cause, splits=splits)
            self._check_races(edge, made, races)
            for token in made:
                if token.group is not None:
                    joined[token.group] = joined.get(token.group, 0) + 1
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
                "R1", "group.opened", name=name, token_id=source.id, parent_id=source.group, due_us=self._join_due_us(name),
                open=any(other.spec.open for other in edges if other.group == name), tolerated=edge.spec.tolerated_failures,
            )  # fmt: skip
            opened[name] = row["group_id"]
        return opened

    def _join_due_us(self, group: str) -> int | None:
        join = self.reading.group_join.get(group)
        return None if join is None or join.spec.timeout_s is None else self.now_us + round(join.spec.timeout_s * 1_000_000)

    def _check_races(self, edge: Edge, made: list[MToken], races: dict[str, str | None]) -> None:
        """Tokens of one race bear one id, of their own split; others none."""
        name = edge.spec.race
        for token in made:
            if name is None:
                require(token.race is None, "R11", f"{token} is in no race")
                continue
            require(token.race is not None and races.setdefault(name, token.race) == token.race, "R11", f"{token}: race {races}")

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
    ) -> list[MToken]:
        """Read the tokens of one transition."""
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
            locks = self.handed_on(source.holds, edge.target)
            require(list(token.holds) == locks, "locks", f"{token} must hold {locks}")
            require(token.scope == scope, "R9", f"{token} must write to scope {scope!r}")
            require((token.cause or {}).get("type") == cause_type, "R10", f"{token} must know of the error {cause_type}")
        if edge.join is not None:
            for token in made_tokens:
                over_incoming = edge.join.over == INCOMING
                join_id = f"incoming:{edge.target}:{token.scope}" if over_incoming else group_id
                waits_s = edge.join.timeout_s if over_incoming else None
                due_us = None if waits_s is None else self.now_us + round(waits_s * 1_000_000)
                self.take("R3", "token.waiting", token_id=token.id, join_id=join_id, due_us=due_us)
        return made_tokens

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


def _or_unbounded(bound: int | None) -> int:
    return UNBOUNDED if bound is None else bound


def _is_late(bound: MGroup | str | None) -> bool:
    return bound is not None and not isinstance(bound, str) and bound.status != "open"
