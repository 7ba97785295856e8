"""What a transition does beside making tokens: it cancels nodes and groups, completes and closes groups, and hands locks on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.audit.ending import Ending
from tests.simulation.audit.model import WAITING
from tests.simulation.audit.reading import INCOMING
from tests.simulation.violations import require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.audit.model import MGroup, MToken
    from tests.simulation.audit.reading import Edge


class Effects(Ending):
    """The rules of effects."""

    def read_effects(self, source: MToken, edges: list[Edge]) -> bool:
        """Read the effects of the transitions that fire; whether they withdraw the branch of the source itself."""
        for edge in edges:
            self._read_cancelled_nodes(source, edge)
            self._read_cancelled_groups([g for name in edge.spec.cancel_groups for g in self._instances(source, name)])
            for name in edge.spec.complete_groups:
                for group in self._instances(source, name):
                    self.take("R4", "group.completed_early", group_id=group.id)
            for name in edge.spec.close_groups:
                for group in self._instances(source, name):
                    if group.is_open:
                        self.take("R4", "group.sealed", group_id=group.id)
        return any(group.status == "cancelled" for group in self.model.chain(source.group))

    def _read_cancelled_nodes(self, source: MToken, edge: Edge) -> None:
        """The tokens at the nodes, in the nearest branch that these belong to; their `on: cancelled` transitions fire."""
        found = [token for node in edge.spec.cancel for token in self._tokens_at(source, node)]
        for token in sorted(found, key=lambda token: token.born):
            if token.is_live:
                self.take_token_cancel("R11", token, routed=True)
        if found:
            self.count("R11")

    def _read_cancelled_groups(self, groups: list[MGroup]) -> None:
        """Groups end with all that is in them; their joins do not fire."""
        groups = [group for group in groups if group.status == "open"]
        while any(group.status == "open" for group in groups):
            self.take_cancel(
                "R11",
                lambda token: any(self.model.is_within(token.group, group.id) for group in groups),
                lambda inner: any(self.model.is_within(inner.id, group.id) for group in groups),
            )
        for group in groups:
            left = self.model.members(group.id)
            require(not left, "R11", f"{group} is cancelled, and in it lives {left}")

    def _instances(self, source: MToken, name: str) -> list[MGroup]:
        """The open groups of a name in the nearest branch around the source that opens such groups."""
        branch = self._branch_of(source, [edge.source for edge in self.reading.edges if edge.group == name])
        found = [
            group
            for group in self.model.groups.values()
            if group.name == name and group.status == "open" and self._lies_in(self.model.tokens[group.opener].scope, branch)
        ]
        return sorted(found, key=lambda group: group.born)

    def _tokens_at(self, source: MToken, node: str) -> list[MToken]:
        branch = self._branch_of(source, [node])
        return [
            token
            for token in self.model.live()
            if token.node == node and token.status != WAITING and self._lies_in(token.scope, branch)
        ]

    def _branch_of(self, source: MToken, nodes: Iterable[str]) -> str:
        """The scope of the innermost branch around a token in which one of these nodes can be reached."""
        wanted = set(nodes)
        scope = source.scope
        while scope and wanted.isdisjoint(self._branch_nodes(self.model.tokens[scope].node)):
            scope = self.model.around[scope]
        return scope

    def _lies_in(self, scope: str, branch: str) -> bool:
        while scope and scope != branch:
            scope = self.model.around[scope]
        return scope == branch

    def _branch_nodes(self, first: str) -> set[str]:
        """The nodes that a branch which begins at a node can reach before it is joined."""
        found = {first}
        while True:
            more = set()
            for edge in self.reading.edges:
                if edge.source not in found or edge.target in found:
                    continue
                over = None if edge.join is None or edge.join.over == INCOMING else edge.join.over
                if over is None or any(other.group == over and other.source in found for other in self.reading.edges):
                    more.add(edge.target)
            if not more:
                return found
            found |= more

    def handed_on(self, holds: Iterable[str], target: str) -> list[str]:
        """The mutexes that a token at `target` takes over of those that were held before it."""
        held = set(holds)
        node = self.reading.nodes.get(target)
        return [] if node is None else [f"mutex:{name}" for name in node.mutex if f"mutex:{name}" in held]
