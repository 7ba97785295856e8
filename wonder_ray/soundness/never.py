"""What did not happen though all was seen: nodes that never run, runs that never complete.

Failures are explored where something handles them, not where a group only tolerates them. And not all causes are: what merges and
what an `m` asks can fail to be evaluated, and guards of what is computed may never hold. A node that only such a failure leads to
may run: that is not decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.soundness.abstraction import INLINE
from wonder_ray.soundness.findings import Finding
from wonder_ray.soundness.outcomes import BY_EXPRESSION, TYPES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.definitions.graph import Edge, Graph
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.soundness.abstraction import Abstract
    from wonder_ray.soundness.exploring import Exploration
    from wonder_ray.soundness.outcomes import OpenGroups


def never_happens(
    definition: WorkflowDefinition, abstract: Abstract, seen: Exploration, open_groups: OpenGroups
) -> Iterator[Finding]:
    """What never happened, and whether that is sure."""
    missing = [node.id for node in definition.nodes if node.id not in seen.reached]
    if seen.completes and not missing:
        return
    graph = abstract.graph
    sampled = abstract.counts.is_sampled or bool(abstract.counts.doubtful)
    unseen = {edge.target for edge in _unexplored(definition, graph, open_groups) if edge.source in seen.reached}
    unseen |= {
        graph.group_joins[edge.group].node  # which may fire without an arrival, since a failure was tolerated
        for edge in graph.edges
        if edge.tolerated and edge.group is not None and edge.group in graph.group_joins and edge.source in seen.reached
    }
    if not seen.completes:
        message = "no run of it can complete"
        if unseen or sampled:
            message = "whether a run of it can complete depends on data"
        yield Finding("never_completes", definition.name, message, sure=not unseen and not sampled)
    may_run = graph.reached_from(unseen)
    for node in missing:
        sure = node not in may_run and not sampled
        message = f"{node!r} can never run" if sure else f"{node!r} runs, if ever, only where data is of a special kind"
        yield Finding("never_runs", node, message, sure=sure)


def _unexplored(definition: WorkflowDefinition, graph: Graph, open_groups: OpenGroups) -> Iterator[Edge]:
    """The transitions that may fire for a failure that was not explored."""
    merging = {t.target: t.join.over for t in definition.transitions if t.join and (t.join.merge or isinstance(t.join.m, str))}
    guarded = {node.id for node in definition.nodes if node.kind in INLINE and node.guard}
    handled = [edge.trigger for edge in graph.edges if edge.trigger.group is not None]
    for edge in graph.edges:
        group = edge.trigger.group
        if group is None:
            if edge.source in guarded and edge.trigger.outcome == "failed":
                yield edge
            continue
        bit = open_groups.bits([group])
        many = sum(trigger.group == group for trigger in handled) > TYPES_MAX
        by_expression = edge.trigger.error_type in {None, *BY_EXPRESSION}
        breaks = group in merging.values() or any(open_groups.any_at(node, bit) for node in (*merging, *guarded))
        if many or (by_expression and breaks):
            yield edge
