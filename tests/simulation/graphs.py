"""Random definitions: blocks within blocks of everything the graph model has, and a few wild transitions across them.

Every definition passes the validator. Runs of one end by themselves: loops are bounded, and what fails is bounded, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.simulation.drafting import FAILING
from tests.simulation.wider import CHILDREN, Wider
from wonder_ray.definitions.models import Transition, WorkflowDefinition
from wonder_ray.definitions.validation import validate
from wonder_ray.values import canonical

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.chance import Chance

    Ends = tuple[str, str]
    """The first and the last node of a block."""

NODES_MAX: Final = 44
CHILD_NODES_MAX: Final = 12
WIDE: Final = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"
"""So many branches that their paths sort otherwise as texts."""
INPUT: Final = {"n": 3, "list": [4, 5, 6], "text": "x"}
_FAILED: Final = ("failed", "failed", "failed[Overload]", "failed[BadData]")


def draw_definition(chance: Chance) -> WorkflowDefinition:
    """A definition that the validator lets pass."""
    while True:
        blocks = Blocks(chance)
        first, last = blocks.chain(chance.number(2, 3))
        while len(blocks.nodes) < chance.number(16, NODES_MAX):
            begin, end = blocks.chain(2)
            blocks.edge(last, begin)
            last = end
        blocks.finish(last)
        definition = _definition(chance, "drawn", blocks, first)
        if is_valid(definition):
            return as_registered(with_wild_transitions(chance, definition))


def draw_children(chance: Chance) -> dict[str, WorkflowDefinition]:
    """The workflows that child runs have: small ones; one of them starts runs of itself, as deep as it may."""
    return {name: _draw_child(chance, name) for name in CHILDREN}


def _draw_child(chance: Chance, name: str) -> WorkflowDefinition:
    while True:
        blocks = Blocks(chance)
        first, last = blocks.chain(1)
        if name == "nested":
            again = blocks.waiter(("child",))
            blocks.edge(last, again, when="input.n > 1")
        definition = _definition(chance, name, blocks, first).model_copy(update={"max_depth": 2, "output": {"n": "input.n"}})
        if len(blocks.nodes) <= CHILD_NODES_MAX and is_valid(definition):
            return as_registered(definition)


def _definition(chance: Chance, name: str, blocks: Blocks, first: str) -> WorkflowDefinition:
    return WorkflowDefinition(
        name=name,
        nodes=tuple(blocks.nodes),
        transitions=tuple(blocks.edges),
        start=(first,),
        timeout_s=chance.number(20, 400) if chance.maybe(0.15) else None,
        output={"state": "state", "n": "input.n"} if chance.maybe(0.7) else {},
    )


def as_registered(definition: WorkflowDefinition) -> WorkflowDefinition:
    """The definition as the registry gives it back: in its canonical form, keys in order."""
    return WorkflowDefinition.model_validate_json(canonical(definition.to_json()))


def is_valid(definition: WorkflowDefinition) -> bool:
    """Whether the validator has no error to report."""
    return not any(problem.severity == "error" for problem in validate(definition))


def with_wild_transitions(chance: Chance, definition: WorkflowDefinition) -> WorkflowDefinition:
    """A few transitions between any two nodes, as far as the validator lets them pass."""
    names = [node.id for node in definition.nodes]
    for _ in range(chance.number(0, 3) if chance.maybe(0.4) else 0):
        wild = Transition(
            source=chance.pick(names),
            target=chance.pick(names),
            priority=chance.number(0, 1),
            when=chance.pick([None, "input.n == 3", "size(input.list) < 3"]),
            on=chance.pick(["completed", "completed", "failed"]),
            max_iterations=chance.number(0, 1),
            spawn_count=chance.pick([None, None, 2]),
        )
        wilder = definition.model_copy(update={"transitions": (*definition.transitions, wild)})
        if is_valid(wilder):
            definition = wilder
    return definition


class Blocks(Wider):
    """Blocks are chained, each beginning at one node and ending at one."""

    def chain(self, depth: int) -> Ends:
        """One to three blocks, one after the other."""
        first, last = self.block(depth)
        for _ in range(self.chance.often({0: 3, 1: 2, 2: 1})):
            begin, end = self.block(depth)
            self.edge(last, begin)
            last = end
        return first, last

    def block(self, depth: int) -> Ends:
        """One block."""
        kinds: dict[Callable[[int], Ends], int] = {self.single: 3}
        if depth > 0 and len(self.nodes) < NODES_MAX:
            kinds |= {
                self.split: 4, self.foreach: 5, self.loop: 2, self.free_split: 1, self.incoming: 3, self.guarded: 2,
                self.choice: 1, self.growing: 2, self.deep: 2, self.twins: 1, self.rejoined_loop: 1, self.mended: 2,
                self.tolerant: 2,
            }  # fmt: skip
            if self.has_world:
                kinds |= {
                    self.waiting: 6, self.race: 3, self.undoable: 3, self.critical: 4, self.crossing: 2, self.gated: 3,
                    self.effect: 3, self.open_group: 2, self.patient_join: 3, self.blocking_join: 2, self.ending: 1,
                }  # fmt: skip
        return self.chance.often(kinds)(depth - 1)

    def single(self, _depth: int) -> Ends:
        """One node."""
        name = self.node()
        return name, name

    def within(self, group: str, depth: int) -> Ends:
        """A chain inside a group."""
        self.groups.append(group)
        ends = self.chain(depth)
        self.groups.pop()
        return ends

    def split(self, depth: int) -> Ends:
        """One to four branches in a group, each of which arrives at its join, or not."""
        chance, group = self.chance, self.group()
        first, last, join = self.node(), self.node(), self.join(group)
        tolerated = chance.pick([None, None, None, 1, 0.5])
        for _ in range(chance.number(1, 4)):
            begin, end = self.within(group, depth if chance.maybe(0.5) else 0)
            count = chance.number(0, 3) if chance.maybe(0.2) else None
            when = self.condition(first) if chance.maybe(0.15) else None
            self.edge(first, begin, group=group, tolerated_failures=tolerated, spawn_count=count, when=when)
            if chance.maybe(0.9):
                self.edge(end, last, join=join, when=self.condition(end) if chance.maybe(0.1) else None)
        self.handle(first, last, group)
        return first, last

    def foreach(self, depth: int) -> Ends:
        """A fan-out over a list."""
        chance, group = self.chance, self.group()
        first = self.node(chance.pick(["list"] * 9 + ["mixed"] if self.is_calm else ["list", "list", "mixed", "number"]))
        last, join = self.node(), self.join(group)
        lists = {"input.list": 6, "[]": 2, "[1, 2]": 2, "[3, 1, 2, 0]": 2, WIDE: 3 if depth < 1 else 0}
        if self._behaves[first] in {"list", "mixed"}:
            lists["result"] = 12
        item = chance.pick(["item", f"item_{group}"])
        self._in_branch += 1
        self._items.append(item)
        begin, end = self.within(group, depth)
        self._items.pop()
        self._in_branch -= 1
        self.edge(
            first, begin, foreach=chance.often(lists), item=item, group=group,
            max_concurrency=chance.pick([None, None, 1, 2]), tolerated_failures=chance.pick([None, None, 1, 0.5, 0.34]),
        )  # fmt: skip
        self.edge(end, last, join=join)
        self.handle(first, last, group)
        return first, last

    def handle(self, first: str, last: str, group: str) -> None:
        """Now and then the failure of a group is handled: by going on, by another node, or by trying once more."""
        chance = self.chance
        how = chance.often({"no": 1 if self.is_calm else 4, "go on": 2, "repair": 1, "again": 1, "of a type": 1})
        again = {"max_iterations": chance.number(0, 2)}
        match how:
            case "go on":
                self.edge(first, last, on=f"group_failed({group})")
            case "repair":
                repair = self.node()
                self.edge(first, repair, on=f"group_failed({group})")
                self.edge(repair, last)
            case "again":
                self.edge(first, first, on=f"group_failed({group})", **again)
            case "of a type":
                self.edge(first, first, on=f"group_failed({group})[Overload]", **again)
                self.edge(first, last, on=f"group_failed({group})", priority=1)

    def loop(self, depth: int) -> Ends:
        """A chain that is run up to three times; now and then the bound is a failure."""
        first, last = self.chain(depth)
        after = self.node()
        times = self.chance.number(0, 2)
        if self.chance.maybe(0.2):
            self.edge(last, first, max_iterations=times)
            self.edge(last, after, on="failed[LoopBoundExceeded]")
        else:
            when = self.condition(last) if self.chance.maybe(0.3) else None
            self.edge(last, first, max_iterations=times, when=when)
            self.edge(last, after, priority=1)
        return first, after

    def free_split(self, depth: int) -> Ends:
        """Two or more threads that nothing joins: each goes on."""
        first, last = self.node(), self.node()
        if self.chance.maybe(0.5):
            self.edge(first, last, spawn_count=self.chance.number(0, 2))
            return first, last
        for _ in range(2):
            begin, end = self.chain(min(depth, 1))
            self.edge(first, begin)
            self.edge(end, last)
        return first, last

    def incoming(self, depth: int) -> Ends:
        """Threads that a join over `incoming` brings together; some never come."""
        first, last, join = self.node(), self.node(), self.join("incoming")
        for _ in range(self.chance.number(1, 4)):
            begin, end = self.chain(depth if self.chance.maybe(0.5) else 0)
            count = 2 if self.chance.maybe(0.15) else None
            self.edge(first, begin, when=self.condition(first) if self.chance.maybe(0.3) else None, spawn_count=count)
            self.edge(end, last, join=join, when=self.condition(end) if self.chance.maybe(0.1) else None)
        return first, last

    def rejoined_loop(self, depth: int) -> Ends:
        """A join over `incoming` that lies on a loop."""
        first, meeting, after = self.node(), self.node("number"), self.node()
        join = self.join("incoming")
        self.edge(first, meeting, join=join)
        for _ in range(self.chance.number(1, 2)):
            begin, end = self.chain(min(depth, 0))
            self.edge(meeting, begin, max_iterations=self.chance.number(0, 2))
            self.edge(end, meeting, join=join)
        self.edge(meeting, after, priority=1)
        return first, after

    def guarded(self, depth: int) -> Ends:
        """A chain whose last node's failure is handled, by one or two transitions."""
        first, last = self.chain(depth)
        after = self.node()
        self.edge(last, after)
        self.edge(last, after, on=self.chance.pick(_FAILED))
        if self.chance.maybe(0.3):
            fix = self.node()
            self.edge(last, fix, on=self.chance.pick(["timed_out", "failed"]), priority=self.chance.number(0, 1))
            self.edge(fix, after)
        return first, after

    def mended(self, _depth: int) -> Ends:
        """A node that fails, and a way on for that."""
        first, after = self.node(self.chance.pick(FAILING)), self.node()
        self.edge(first, after)
        self.edge(first, after, on="failed")
        return first, after

    def tolerant(self, _depth: int) -> Ends:
        """Members of which some fail, within what the group tolerates or beyond."""
        chance, group = self.chance, self.group()
        first, begin, last = self.node(), self.node(chance.pick(FAILING)), self.node()
        tolerated = chance.pick([0, 1, 2, 0.25, 0.5, 0.9, None])
        self.edge(first, begin, group=group, spawn_count=chance.number(1, 4), tolerated_failures=tolerated)
        self.edge(begin, last, join=self.join(group))
        self.edge(first, last, on=f"group_failed({group})")
        return first, last

    def choice(self, depth: int) -> Ends:
        """One of two ways, by a condition."""
        first, after = self.node("number"), self.node()
        for priority in range(2):
            begin, end = self.chain(depth)
            self.edge(first, begin, when=self.condition(first) if not priority else None, priority=priority)
            self.edge(end, after)
        return first, after

    def growing(self, _depth: int) -> Ends:
        """Members that enlarge their own group, or split within it without a name."""
        chance, group = self.chance, self.group()
        first, begin, more, last = self.node(), self.node("number"), self.node(), self.node()
        join = self.join(group)
        self.handle(first, last, group)
        name = chance.pick([group, group, None])
        self.edge(first, begin, group=group, spawn_count=chance.number(1, 3))
        self.edge(begin, more, group=name, spawn_count=chance.number(0, 2), when=self.condition(begin))
        self.edge(begin, last, join=join, priority=chance.number(0, 1))
        self.edge(more, last, join=join)
        return first, last

    def deep(self, _depth: int) -> Ends:
        """Members of an inner group that join the outer one, past the inner."""
        chance, outer, inner = self.chance, self.group(), self.group()
        first, begin, leaf, last = self.node(), self.node(), self.node("number"), self.node()
        join = self.join(outer)
        self.edge(first, begin, group=outer, spawn_count=chance.number(1, 3), tolerated_failures=chance.pick([None, 1]))
        self.edge(begin, leaf, group=inner, spawn_count=chance.number(1, 3))
        if chance.maybe(0.5):
            middle = self.node()
            self.edge(leaf, middle, join=self.join(inner), when=self.condition(leaf))
            self.edge(middle, last, join=join)
            self.edge(leaf, last, join=join, priority=1)
        else:
            self.edge(leaf, last, join=join)
        return first, last

    def twins(self, depth: int) -> Ends:
        """Two groups opened by one split, both within a third."""
        chance, outer = self.chance, self.group()
        first, middle, last = self.node(), self.node(), self.node()
        join = self.join(outer)
        self.edge(first, middle, group=outer, spawn_count=chance.number(1, 2))
        for _ in range(2):
            group = self.group()
            begin, end = self.within(group, min(depth, 0))
            after = self.node()
            self.edge(middle, begin, group=group, spawn_count=chance.number(1, 2))
            self.edge(end, after, join=self.join(group))
            self.edge(after, last, join=join)
        return first, last

    def finish(self, last: str) -> None:
        """Now and then a last block that follows what passes the end more than once."""
        if self.chance.maybe(0.3):
            self.edge(last, self.node())
