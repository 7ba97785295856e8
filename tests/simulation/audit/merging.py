"""What is written to the context: output mappings, and the merges of joins in branch order (R7, R8, R9)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from tests.simulation.audit.model import MToken, path_order
from tests.simulation.audit.reader import Reader
from tests.simulation.audit.reading import UndefinedError
from tests.simulation.violations import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulation.audit.model import MGroup
    from tests.simulation.audit.reading import Edge, JoinRule
    from wonder_ray.definitions.models import Merge

    Writes = list[tuple[str, Any]]


class Merging(Reader):
    """The rules of writes."""

    def outputs(self, token: MToken, mapping: Mapping[str, str]) -> Writes:
        """What an output mapping writes: every expression sees the context as it was; raises `UndefinedError`."""
        scope = self.model.scope_of(token, token.result)
        writes = [(target, self.reading.evaluate(text, scope)) for target, text in mapping.items()]
        self._check_places(token.scope, writes)
        return writes

    def _check_places(self, scope: str, writes: Writes) -> None:
        """Nothing can be set within what is no object; raises `UndefinedError`."""
        seen = copy.deepcopy(self.model.view(scope))
        for target, value in writes:
            here: Any = seen
            *way, last = target.split(".")
            for key in way:
                here = here.setdefault(key, {})
                if not isinstance(here, dict):
                    msg = f"{target}: {key} is no object"
                    raise UndefinedError(msg)
            here[last] = value

    def merged(self, scope: str, merges: tuple[Merge, ...], arrivals: list[tuple[str, MToken]]) -> Writes:
        """What merges write; the arrivals are in branch order, with the name of each branch; raises `UndefinedError`."""
        writes: Writes = []
        for merge in merges:
            values = [(name, self._source(token, merge.source)) for name, token in arrivals]
            writes.append((merge.target, combined(merge.strategy, values)))
        self._check_places(scope, writes)
        return writes

    def _source(self, token: MToken, text: str) -> Any:
        before = token if token.parent is None else self.model.tokens[token.parent]
        return self.reading.evaluate(text, self.model.scope_of(token, before.result))

    def in_branch_order(self, arrivals: list[MToken]) -> list[MToken]:
        """Definition order, index, firing ordinal: never the order of arrival (R7)."""
        order = {edge.id: edge.order for edge in self.reading.edges}
        return sorted(arrivals, key=lambda t: (path_order(t.path), order[t.transition or ""], self._lineage(t)))

    def _lineage(self, token: MToken) -> list[int]:
        """When the tokens came to be that one goes back to: what tells branches with the same path apart."""
        found = []
        while token.parent is not None:
            parent = self.model.tokens[token.parent]
            if token.transition is None and parent.waits_at is not None and parent.waits_at not in self.model.groups:
                break  # a firing of a join over incoming is a beginning
            token = parent
            found.append(token.born)
        return found[::-1]

    def read_merges(self, join_id: str, join: JoinRule, scope: str, arrivals: list[tuple[str, MToken]]) -> None:
        """Read what a firing of a join merges; raises `UndefinedError`, having read nothing, when it cannot."""
        if not join.merges:
            return
        writes = self.merged(scope, join.merges, arrivals)
        row = self.take("R8", "branches.merged", join_id=join_id, node_id=join.node, branches=len(arrivals))
        require(row.get("scope_id", "") == scope, "R9", f"the join at {join.node} merges into scope {scope!r}: {row}")
        found = [(write["target"], write["value"]) for write in row["writes"]]
        if found != writes:
            shuffled = _same_but_for_order(found, writes)
            self.broken("R7" if shuffled else "R8", f"the merge must write {writes!r:.500}", row)
        self.count("R8", len(writes))
        if len(arrivals) > 1:
            self.count("R7")

    def branch_names(self, prefix: str, arrivals: list[MToken]) -> list[tuple[str, MToken]]:
        """Arrivals with the names of their branches: what follows the opener's path and node."""
        return [(_branch_name(prefix, token.path), token) for token in arrivals]

    # --- passing (R2) --------------------------------------------------------------------------------------------

    def as_late(self, source: MToken, edge: Edge, path: str) -> MToken:
        """The token that would have waited at the join, had that not fired."""
        return MToken("late", 0, edge.target, path, source.id, edge.id, source.scope, None, source.fanout, source.index)

    def read_passing(self, group: MGroup, join: JoinRule, path: str, arrival: MToken) -> None:
        """Read that a member passes a join that has fired: one more thread of the enclosing branch."""
        opener = self.model.tokens[group.opener]
        self.read_merges(group.id, join, opener.scope, self.branch_names(opener.path, [arrival]))
        self.take(
            "R2", "token.created", node_id=join.node, path_id=path, holds=[], parent_id=opener.id, transition_id=None,
            scope_id=opener.scope, group_id=opener.group, fanout_id=opener.fanout, index=opener.index,
        )  # fmt: skip
        if opener.group is not None:
            self.model.groups[opener.group].size += 1


def combined(strategy: str, values: list[tuple[str, Any]]) -> Any:
    """What a strategy makes of the values of the branches (R8)."""
    match strategy:
        case "append":
            return [value for _, value in values]
        case "concat":
            return [item for _, value in values for item in _only(value, list)]
        case "merge_object":
            return {key: item for _, value in values for key, item in _only(value, dict).items()}
        case "keyed_by_branch":
            names = [name for name, _ in values]
            nth = [names[: at + 1].count(name) for at, name in enumerate(names)]
            return {f"{name}#{n}" if n > 1 else name: value for n, (name, value) in zip(nth, values, strict=True)}
        case _:
            return values[-1][1] if values else None


def _only(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        msg = f"{value!r} is no {kind.__name__}"
        raise UndefinedError(msg)
    return value


def _branch_name(prefix: str, path: str) -> str:
    own = path.removeprefix(f"{prefix}.")
    return own.partition(".")[2] or own


def _same_but_for_order(found: Writes, wanted: Writes) -> bool:
    """Whether some list holds what it should, and not in the order in which it should."""
    pairs = [(mine, other) for (_, mine), (_, other) in zip(found, wanted, strict=False)]
    lists = [(mine, other) for mine, other in pairs if isinstance(mine, list) and isinstance(other, list)]
    return any(mine != other and sorted(map(repr, mine)) == sorted(map(repr, other)) for mine, other in lists)
