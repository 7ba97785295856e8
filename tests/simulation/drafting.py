"""A definition under construction: words for nodes, transitions, conditions, merges and joins, drawn by chance."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from tests.simulation.behaviour import FAIL_SHARE, PREFIX
from wonder_ray.definitions.models import (
    ActionNode,
    ComputeNode,
    Join,
    Merge,
    Node,
    Retry,
    Step,
    StepsNode,
    Transition,
)

if TYPE_CHECKING:
    from tests.simulation.chance import Chance

_CALM: Final = MappingProxyType({"number": 10, "list": 5, "object": 3, "text": 1, "flaky": 2, "shaky": 2, "slow": 1})
_ROUGH: Final = MappingProxyType({**_CALM, "mixed": 1, "broken": 1, "fatal": 1})
FAILING: Final = ("flaky", "broken", "fatal", "shaky", "mixed")
_PATIENT: Final = Retry(max_attempts=8, backoff_s=0.1, multiplier=1.5, jitter=0.2)
_RETRY: Final = (
    Retry(max_attempts=3, backoff_s=0.5, jitter=0.5),
    Retry(max_attempts=2, backoff_s=2, multiplier=3, jitter=0, retry_on=("Overload",)),
    Retry(max_attempts=4, backoff_s=0, non_retryable=("BadData",)),
    Retry(max_attempts=1),
)
Strategy = Literal["append", "concat", "merge_object", "keyed_by_branch", "last_wins"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("append", "append", "concat", "merge_object", "keyed_by_branch", "last_wins")
REMAINING: Final[tuple[Literal["absorb", "cancel", "pass"], ...]] = ("absorb", "cancel", "pass")


class Draft:
    """A definition under construction."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.is_calm = chance.maybe(0.88)
        """Whether most of what fails is retried, tolerated or handled, so that runs get far."""
        self.has_world = chance.maybe(0.7)
        """Whether something in it waits for the world."""
        self.nodes: list[Node] = []
        self.edges: list[Transition] = []
        self.groups: list[str] = []
        """The groups that are open where the next node is put, innermost last."""
        self._named = 0
        self._behaves: dict[str, str] = {}
        self._in_branch = 0
        self._items: list[str] = []

    def edge(self, source: str, target: str, **rest: Any) -> None:
        """One more transition."""
        self.edges.append(Transition(source=source, target=target, **rest))

    def node(self, kind: str | None = None) -> str:
        """One more node: an action, now and then a compute node or steps."""
        chance, name = self.chance, f"n{len(self.nodes)}"
        if kind is None and chance.maybe(0.15):
            self._behaves[name] = "none"
            self.nodes.append(ComputeNode(id=name, output=self._computed(name)))
            return name
        behaviour = kind or chance.often(dict(_CALM if self.is_calm else _ROUGH))
        is_timed = chance.maybe(0.2)
        retries = (chance.pick(_RETRY),) if chance.maybe(0.8) else ()
        if kind is None and self.is_calm:
            retries = (_PATIENT,)
        self._behaves[name] = behaviour
        common: dict[str, Any] = {
            "id": name,
            "input": self._given(),
            "output": self._kept(name),
            "retry": retries if behaviour in FAIL_SHARE or is_timed else (),
            "timeout_s": chance.number(1, 8) if is_timed else None,
            "batch": chance.maybe(0.8),
        }
        if chance.maybe(0.07):
            self.nodes.append(StepsNode(steps=(Step(name="one", action=PREFIX + behaviour),), **common))
        else:
            self.nodes.append(ActionNode(action=PREFIX + behaviour, **common))
        return name

    def _given(self) -> dict[str, str]:
        options = {"input.n": 3, "size(input.list) + 1": 1}
        if self._in_branch:
            options |= {"index": 4, "[index, input.n]": 1}
        options |= dict.fromkeys(self._items, 3)
        if self.chance.maybe(0.002 if self.is_calm else 0.02):
            options = {"state.nobody_writes_this": 1}
        return {"value": self.chance.often(options)} if self.chance.maybe(0.6) else {}

    def _kept(self, name: str) -> dict[str, str]:
        options: list[dict[str, str]] = [{}, {}, {f"state.{name}": "result"}, {"state.last": "result"}]
        options += [{f"state.box.{name}": "result"}, {"output.seen": "result", "state.last": "token.node"}]
        if self.chance.maybe(0.002 if self.is_calm else 0.02):
            return self.chance.pick([{"state.box": "1"}, {"state.bad": "result.missing"}])
        return self.chance.pick(options)

    def _computed(self, name: str) -> dict[str, str]:
        counted = f"has(state.{name}) ? state.{name} + 1 : 1"
        return self.chance.pick([{f"state.{name}": counted}, {"state.last": "input.n", f"state.box.{name}": "1"}, {}])

    def group(self) -> str:
        """A name for a group."""
        self._named += 1
        return f"g{self._named}"

    def condition(self, source: str) -> str | None:
        """A condition for a transition out of a node, or none."""
        options = ["input.n == 3", "input.n > 5", "has(state.last)"]
        if self._behaves[source] in {"number", "flaky", "shaky", "slow"}:
            options += ["result > 1", "result < 3", "result == 0"]
        if self._in_branch:
            options += ["index == 0", "index != 1"]
        return self.chance.pick(options)

    def merges(self) -> tuple[Merge, ...]:
        """Up to two merges."""
        chance = self.chance
        found = {}
        for _ in range(chance.often({0: 2, 1: 5, 2: 2})):
            target = chance.pick(["state.merged", "state.last", "state.box.merged", "output.merged"])
            strategy = chance.pick(STRATEGIES)
            sources = {"concat": ["[token.node]", "result"], "merge_object": ["{token.node: 1}", "result"]}
            options = sources.get(strategy, ["result", "token.path", "token.node"])
            odd = 0.02 if self.is_calm and strategy in sources else 0.3
            source = chance.pick(options) if chance.maybe(odd) else options[0]
            found[target] = Merge(target=target, source=source, strategy=strategy)
        return tuple(found.values())

    def join(self, group: str) -> Join:
        """A join of any kind over a group (or over `incoming`)."""
        chance = self.chance
        strategy: Literal["all", "any", "m_of_n"] = chance.pick(["all", "all", "any", "m_of_n"])
        calm: list[int | str] = [1, "input.n - 2"] if group == "incoming" else [1, 1, 2, "input.n - 2"]
        counts: list[int | str] = calm if self.is_calm else [1, 2, 2, 3, "input.n - 1", "1 + 1"]
        return Join(
            over=group,
            strategy=strategy,
            m=chance.pick(counts) if strategy == "m_of_n" else None,
            remaining="absorb" if strategy == "all" else chance.pick(REMAINING),
            merge=self.merges(),
        )
