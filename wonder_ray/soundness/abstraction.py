"""A definition without its data: the graph that production planners run on, with free choices in the place of expressions.

What is left out only delays things (retries, guards, keys that depend on data), or decides about data. Gates, signals, timers
and child runs are work that ends some time, as tasks are. Counts are explored as `counting` says; what is added to an open group
from outside counts as there from the start.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.definitions.graph import Edge, Graph, compile_graph
from wonder_ray.definitions.targets import parse_target
from wonder_ray.soundness.choosing import Chooser, FreeCondition, FreeCount, FreeFailure, FreeThreshold
from wonder_ray.soundness.conditions import names_in, parse_condition, pieces, subject
from wonder_ray.soundness.counting import Counts

if TYPE_CHECKING:
    from wonder_ray.definitions import models
    from wonder_ray.definitions.graph import NodeSpec
    from wonder_ray.soundness.outcomes import OpenGroups

INLINE: Final = frozenset({"compute", "terminate"})
"""What ends in the turn in which it begins."""
_ANYWHERE: Final = parse_target("state.anything")
_NOTHING: Final[tuple[tuple[str, Any], ...]] = (
    ("guard", None), ("concurrency_key", None), ("output", {}), ("timeout_s", None), ("input", {}), ("retry", ()), ("undo", None),
)  # fmt: skip


class Abstract:
    """What is explored of a definition.

    Attributes:
        graph: For the planners.
        chooser: Answers what they ask.
        counts: Which numbers are explored.
        keeps_all: Whether all that is asked of the input is answered once.
        exact: Groups whose size matters, beside whether they have members.
        ordered: Groups whose instances fire in the order of their opening.
    """

    def __init__(
        self,
        definition: models.WorkflowDefinition,
        open_groups: OpenGroups,
        *,
        exact: int,
        keeps_all: bool = False,
    ) -> None:
        """What is explored with counts of up to `exact`.

        With `keeps_all`, whatever is asked of the run's input is answered once for the whole run; else only what several
        transitions ask is, since answers that are kept make more states.
        """
        self.chooser = Chooser()
        self.counts = Counts(definition, open_groups, exact)
        self.keeps_all = keeps_all
        bare = compile_graph(_stripped(definition))
        asked = (one for t in definition.transitions if t.when is not None for one in pieces(parse_condition(t.when)))
        often = Counter(subject(condition.atom) for condition in asked if condition.of_input)
        self.chooser.kept |= {about for about, count in often.items() if keeps_all or count > 1}
        edges = tuple(self._edge(i, bare.edges[i], t) for i, t in enumerate(definition.transitions))
        fallible = open_groups.fallible(definition)
        nodes = {name: self._free(node) if name in fallible else _as_work(node) for name, node in bare.nodes.items()}
        self.graph = Graph(
            nodes=nodes, edges=edges, start=bare.start, output=(), timeout_us=None, max_depth=bare.max_depth,
        )  # fmt: skip
        joins = self.graph.group_joins
        self.ordered = {name for name, join in joins.items() if join.blocking}
        tolerant = {edge.group for edge in edges if edge.tolerated is not None and edge.group is not None}
        self.exact = {name for name, join in joins.items() if join.strategy != "all"} | tolerant

    def _free(self, node: NodeSpec) -> NodeSpec:
        """A node whose expressions may be impossible to evaluate, where that makes a difference."""
        if node.kind not in INLINE:
            return _as_work(node)
        return msgspec.structs.replace(node, output=((_ANYWHERE, FreeFailure(node.id, self.chooser)),))

    def _edge(self, i: int, edge: Edge, t: models.Transition) -> Edge:
        fields: dict[str, Any] = {}
        if t.when is not None:
            fields["when"] = FreeCondition(t.when, parse_condition(t.when), self.chooser)
        said = self.counts.explored.get(i)
        if t.foreach is not None:
            sizes = self.counts.free_sizes(t) if said is None else (said,)
            fields["foreach"] = FreeCount(t.foreach, sizes, self.chooser, as_list=True, keeps=self.keeps_all)
        elif t.spawn_count is not None and said is None:
            text = str(t.spawn_count)
            fields["spawn_count"] = FreeCount(text, self.counts.free_sizes(t), self.chooser, as_list=False, keeps=self.keeps_all)
        elif said is not None:
            fields["spawn_count"] = said
        if i in self.counts.iterations:
            fields["max_iterations"] = self.counts.iterations[i]
        if edge.join is not None and edge.join.m is not None and t.join is not None:
            fields["join"] = msgspec.structs.replace(edge.join, m=self._threshold(t.join))
        return msgspec.structs.replace(edge, **fields) if fields else edge

    def _threshold(self, join: models.Join) -> FreeThreshold | int | None:
        if isinstance(join.m, str):
            return FreeThreshold(join.m, self.chooser)
        return self.counts.thresholds.get(join.over, join.m)


def _as_work(node: NodeSpec) -> NodeSpec:
    """What waits for the world as a task."""
    if node.is_task or node.kind in INLINE:
        return node
    return msgspec.structs.replace(node, kind="action", gate=None, signal=None, timer=None, child=None)


def _stripped(definition: models.WorkflowDefinition) -> models.WorkflowDefinition:
    """The definition without all that is evaluated."""
    nodes = []
    for node in definition.nodes:
        fields = {name: empty for name, empty in _NOTHING if getattr(node, name, empty) != empty}
        if "concurrency_key" in fields and not names_in(getattr(node, "concurrency_key", "")):
            del fields["concurrency_key"]  # one for all
        nodes.append(node.model_copy(update=fields))
    transitions = tuple(map(_stripped_transition, definition.transitions))
    return definition.model_copy(update={"nodes": tuple(nodes), "transitions": transitions, "output": {}})


def _stripped_transition(t: models.Transition) -> models.Transition:
    fields: dict[str, Any] = {}
    if t.when is not None:
        fields["when"] = None
    if t.foreach is not None:
        fields["foreach"] = "[]"
    if isinstance(t.spawn_count, str):
        fields["spawn_count"] = 0
    if t.join is not None:
        fields["join"] = t.join.model_copy(update={"merge": (), **({"m": 1} if isinstance(t.join.m, str) else {})})
    return t.model_copy(update=fields) if fields else t
