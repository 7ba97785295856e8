"""Arbitrary definitions for property tests: acyclic graphs of joins over `incoming`, and nested blocks of everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.cases.words import all_of, append, edge, node, workflow
from wonder_ray.definitions.models import ComputeNode, Join, Retry, WorkflowDefinition

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn

    from wonder_ray.definitions.models import Transition


@st.composite
def acyclic(draw: DrawFn, most: int = 9) -> tuple[WorkflowDefinition, dict[str, int]]:
    """An acyclic graph whose nodes with several incoming transitions join over them, and how often each node completes.

    Some transitions never match: what lies behind them only is dead, and no join may wait for it.
    """
    count = draw(st.integers(2, most))
    names = [f"n{i}" for i in range(count)]
    pairs = [(a, b) for b in range(1, count) for a in draw(st.sets(st.integers(0, b - 1), max_size=3))]
    dead = {pair for pair in pairs if draw(st.integers(0, 4)) == 0}
    into = {b: [a for a, target in pairs if target == b] for b in range(count)}
    edges = [
        edge(names[a], names[b], when="1 == 2" if (a, b) in dead else None, join=all_of("incoming") if len(into[b]) > 1 else None)
        for a, b in pairs
    ]
    runs: dict[int, bool] = {}
    for b in range(count):
        runs[b] = not into[b] or any(runs[a] and (a, b) not in dead for a in into[b])
    nodes = [ComputeNode(id=name) if draw(st.integers(0, 5)) == 0 else node(name) for name in names]
    return workflow(nodes, *edges), {names[i]: 1 for i, alive in runs.items() if alive}


@dataclass
class Blocks:
    """A definition under construction: blocks are chained, each beginning at one node and ending at one."""

    draw: DrawFn
    calm: bool = False
    """Nothing fails and nothing races: what comes out does not depend on the order of arrival."""
    nodes: list[Any] = field(default_factory=list)
    edges: list[Transition] = field(default_factory=list)
    groups: int = 0

    def node(self) -> str:
        """A node that may fail, now and then or always, or be computed."""
        name = f"n{len(self.nodes)}"
        kind = self.draw(st.sampled_from(["echo"] * 8 + ["compute"] + ([] if self.calm else ["flaky", "broken"])))
        if kind == "compute":
            self.nodes.append(ComputeNode(id=name, output={f"state.{name}": "1"}))
        else:
            retry = (Retry(max_attempts=2, backoff_s=0.1),) if kind == "flaky" else ()
            self.nodes.append(node(name, kind, input={"value": "1"}, retry=retry))
        return name

    def group(self) -> str:
        """A name for a group."""
        self.groups += 1
        return f"g{self.groups}"

    def chain(self, depth: int) -> tuple[str, str]:
        """One to three blocks, one after the other; their first and last node."""
        first, last = self.block(depth)
        for _ in range(self.draw(st.integers(0, 1))):
            begin, end = self.block(depth)
            self.edges.append(edge(last, begin))
            last = end
        return first, last

    def block(self, depth: int) -> tuple[str, str]:
        """One block."""
        kinds: list[Callable[[int], tuple[str, str]]] = [self.single]
        if depth:
            kinds += [self.split, self.split, self.foreach, self.loop, self.free_split, self.incoming, self.guarded]
        return self.draw(st.sampled_from(kinds))(depth - 1)

    def single(self, _depth: int) -> tuple[str, str]:
        """One node."""
        name = self.node()
        return name, name

    def join(self, group: str) -> Join:
        """A join of any kind over a group (or over `incoming`)."""
        strategy: Any = "all" if self.calm else self.draw(st.sampled_from(["all", "all", "any", "m_of_n"]))
        return Join(
            over=group,
            strategy=strategy,
            m=self.draw(st.integers(1, 3)) if strategy == "m_of_n" else None,
            remaining="absorb" if strategy == "all" else self.draw(st.sampled_from(["absorb", "cancel", "pass"])),
            merge=(append("state.merged", "1"),) if self.draw(st.booleans()) else (),
        )

    def split(self, depth: int) -> tuple[str, str]:
        """Two or three branches in a group, each of which arrives at its join, or not."""
        first, last, group = self.node(), self.node(), self.group()
        join = self.join(group)
        tolerated = self.draw(st.sampled_from([None, None, 1, 0.5]))
        for _ in range(self.draw(st.integers(1, 3))):
            begin, end = self.chain(depth)
            self.edges.append(edge(first, begin, group=group, tolerated_failures=tolerated))
            if self.draw(st.integers(0, 5)):
                self.edges.append(edge(end, last, join=join))
        self.maybe_handle(first, last, group)
        return first, last

    def maybe_handle(self, first: str, last: str, group: str) -> None:
        """Now and then the failure of a group is handled by going on, or by trying once more."""
        how = self.draw(st.sampled_from(["no", "no", "go on", "again"]))
        if how == "go on":
            self.edges.append(edge(first, last, on=f"group_failed({group})"))
        elif how == "again":
            self.edges.append(edge(first, first, on=f"group_failed({group})", max_iterations=1))

    def foreach(self, depth: int) -> tuple[str, str]:
        """A fan-out over a list."""
        first, last, group = self.node(), self.node(), self.group()
        begin, end = self.chain(depth)
        items = self.draw(st.sampled_from(["[]", "[1]", "[1, 2]", "[1, 2, 3]"]))
        limit = self.draw(st.sampled_from([None, 1, 2]))
        tolerated = self.draw(st.sampled_from([None, 1, 0.5]))
        self.edges.append(edge(first, begin, foreach=items, group=group, max_concurrency=limit, tolerated_failures=tolerated))
        self.edges.append(edge(end, last, join=self.join(group)))
        self.maybe_handle(first, last, group)
        return first, last

    def loop(self, depth: int) -> tuple[str, str]:
        """A chain that is run up to three times."""
        first, last = self.chain(depth)
        after = self.node()
        self.edges.append(edge(last, first, max_iterations=self.draw(st.integers(0, 2))))
        self.edges.append(edge(last, after, priority=1))
        return first, after

    def free_split(self, depth: int) -> tuple[str, str]:
        """Two or more threads that nothing joins: each goes on."""
        first, last = self.node(), self.node()
        if self.draw(st.booleans()):
            self.edges.append(edge(first, last, spawn_count=self.draw(st.integers(0, 2))))
            return first, last
        for _ in range(2):
            begin, end = self.chain(min(depth, 1))
            self.edges.append(edge(first, begin))
            self.edges.append(edge(end, last))
        return first, last

    def incoming(self, depth: int) -> tuple[str, str]:
        """Threads that a join over `incoming` brings together."""
        first, last = self.node(), self.node()
        join = self.join("incoming")
        for _ in range(self.draw(st.integers(1, 3))):
            begin, end = self.chain(depth)
            self.edges.append(edge(first, begin, when=self.draw(st.sampled_from([None, None, "1 == 2"]))))
            self.edges.append(edge(end, last, join=join))
        return first, last

    def guarded(self, depth: int) -> tuple[str, str]:
        """A chain whose last node's failure is handled."""
        first, last = self.chain(depth)
        after = self.node()
        self.edges.append(edge(last, after))
        self.edges.append(edge(last, after, on="failed"))
        return first, after


@st.composite
def nested(draw: DrawFn, depth: int = 3, *, calm: bool = False) -> WorkflowDefinition:
    """Blocks in blocks of every kind; `calm` without failures and races."""
    blocks = Blocks(draw, calm=calm)
    first, _ = blocks.chain(depth)
    return workflow(blocks.nodes, *blocks.edges, start=(first,))
