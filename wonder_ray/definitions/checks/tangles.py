"""Which nodes of a graph reach each other.

>>> list(tangles({"a": ["b"], "b": ["a", "c"], "c": [], "d": ["d"]})) == [{"a", "b"}, {"d"}]
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def tangles(graph: Mapping[str, Sequence[str]]) -> Iterator[set[str]]:
    """The strongly connected components that hold a loop (Tarjan's algorithm, without recursion)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    open_nodes: dict[str, None] = {}  # in the order they were opened
    for root in graph:
        work = [] if root in order else [_visit(root, graph, order, low, open_nodes)]
        while work:
            node, rest = work[-1]
            for target in rest:
                if target not in order:
                    work.append(_visit(target, graph, order, low, open_nodes))
                    break
                if target in open_nodes:
                    low[node] = min(low[node], order[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                nodes = _closed(open_nodes, node) if low[node] == order[node] else set()
                if len(nodes) > 1 or (nodes and node in graph[node]):
                    yield nodes


def _visit(
    node: str, graph: Mapping[str, Sequence[str]], order: dict[str, int], low: dict[str, int], open_nodes: dict[str, None]
) -> tuple[str, Iterator[str]]:
    order[node] = low[node] = len(order)
    open_nodes[node] = None
    return node, iter(graph[node])


def _closed(open_nodes: dict[str, None], node: str) -> set[str]:
    """Take off what was opened since `node`, itself included."""
    nodes: set[str] = set()
    while node not in nodes:
        nodes.add(open_nodes.popitem()[0])
    return nodes
