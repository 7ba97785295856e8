"""More blocks: nodes that wait for the world, races, locks, guards, undo, effects, open groups, joins that wait only so long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from tests.simulation.behaviour import PREFIX
from tests.simulation.drafting import Draft
from wonder_ray.definitions.models import (
    ActionNode,
    Escalation,
    GateNode,
    Join,
    Retry,
    SignalNode,
    SubworkflowNode,
    TerminateNode,
    TimerNode,
    Undo,
)

if TYPE_CHECKING:
    Ends = tuple[str, str]

WHOLE: Final = {"type": "integer"}
CHILDREN: Final = ("small", "nested")
"""Workflows that child runs have; the second one starts runs of itself."""


class Wider(Draft):
    """Blocks of what waits, and of what other branches do to each other."""

    def within(self, group: str, depth: int) -> Ends:
        """A chain inside a group."""
        raise NotImplementedError

    # --- nodes that wait -----------------------------------------------------------------------------------------

    def waiting(self, _depth: int) -> Ends:
        """One node that waits for the world; what times out goes on all the same."""
        name = self.waiter()
        after = self.node()
        self.edge(name, after)
        self.edge(name, after, on=self.chance.pick(["failed", "timed_out", "failed"]))
        return name, after

    def waiter(self, kinds: tuple[str, ...] = ("gate", "signal", "timer", "timer", "child", "child")) -> str:
        """A gate, a signal, a timer or a child run."""
        chance, name = self.chance, f"n{len(self.nodes)}"
        self._behaves[name] = "none"
        common: dict[str, Any] = {"id": name, "output": {f"state.{name}": "result"} if chance.maybe(0.5) else {}}
        timeout_s = chance.number(2, 20) if chance.maybe(0.4) else None
        match chance.pick(kinds):
            case "gate":
                steps = tuple(Escalation(after_s=s, assignee=f"'boss{s}'") for s in (1, 4)[: chance.number(0, 2)])
                given = {"n": "input.n"} if chance.maybe(0.3) else {}
                schema = chance.pick([None, WHOLE, WHOLE])
                self.nodes.append(GateNode(answer=schema, timeout_s=timeout_s, escalate=steps, input=given, **common))
            case "signal":
                signal = chance.pick([None, None, "go"])
                retained = signal == "go" or chance.maybe(0.6)
                self.nodes.append(SignalNode(signal=signal, retained=retained, timeout_s=timeout_s, **common))
            case "timer":
                until = "double(run.started_us) / 1000000.0 + 3.0" if chance.maybe(0.2) else None
                durations: list[float | str] = [0.0, 1.5, 6.0, "input.n", "0.5 * 3.0"]
                duration = chance.pick(durations) if until is None else None
                self.nodes.append(TimerNode(duration_s=duration, until=until, **common))
            case _:
                retry = (Retry(max_attempts=2, backoff_s=0.2),) if chance.maybe(0.4) else ()
                self.nodes.append(
                    SubworkflowNode(
                        workflow=chance.often({"small": 6, "nested": 3, "unknown": 1}),
                        retry=retry,
                        timeout_s=timeout_s,
                        input={"n": "input.n - 1", "list": "input.list", "text": "input.text"},
                        undo=self._undo(),
                        **common,
                    )
                )
        return name

    def race(self, _depth: int) -> Ends:
        """Alternatives: the first to end withdraws the others."""
        first, last = self.node(), self.node()
        for _ in range(self.chance.number(2, 3)):
            one = self.waiter(("gate", "signal", "timer", "timer"))
            self.edge(first, one, race="which")
            self.edge(one, last)
            self.edge(one, last, on="failed")
        return first, last

    # --- guards, locks, undo -------------------------------------------------------------------------------------

    def _undo(self) -> Undo | None:
        if not self.chance.maybe(0.3):
            return None
        kind = self.chance.pick(["number", "number", "flaky", "broken"])
        retry = (Retry(max_attempts=3, backoff_s=0.1),) if self.chance.maybe(0.5) else ()
        return Undo(action=PREFIX + kind, input={"value": "result"}, retry=retry)

    def special(self, **rest: Any) -> str:
        """An action with something special about it."""
        name = f"n{len(self.nodes)}"
        self._behaves[name] = "number"
        retry = (Retry(max_attempts=3, backoff_s=0.1),)
        undo = self._undo()
        self.nodes.append(
            ActionNode(id=name, action=f"{PREFIX}shaky", output={f"state.{name}": "result"}, retry=retry, undo=undo, **rest)
        )
        return name

    def undoable(self, _depth: int) -> Ends:
        """Work that can be taken back, one after the other."""
        first, last = self.special(), self.special()
        self.edge(first, last)
        return first, last

    def critical(self, _depth: int) -> Ends:
        """Branches that take turns: over one node or two, by name or by key."""
        chance, group = self.chance, self.group()
        first, last, join = self.node(), self.node(), self.join(group)
        lock = chance.pick(["m", "m2"])
        rest: dict[str, Any] = {"mutex": (lock,)} if chance.maybe(0.6) else {"concurrency_key": "index % 2"}
        if "concurrency_key" in rest and chance.maybe(0.5):
            rest["concurrency_limit"] = 2
        one = self.special(**rest)
        two = self.special(mutex=(lock,)) if "mutex" in rest and chance.maybe(0.5) else self.node()
        self.edge(first, one, group=group, spawn_count=chance.number(2, 5), max_concurrency=chance.pick([None, None, 3]))
        self.edge(one, two)
        self.edge(two, last, join=join)
        self.edge(first, last, on=f"group_failed({group})")
        return first, last

    def crossing(self, _depth: int) -> Ends:
        """Branches that need one lock of two, and branches that need both."""
        group, first, last = self.group(), self.node(), self.node()
        join = self.join(group)
        for locks in (("m",), ("m2",), ("m", "m2")):
            before, one = self.node("number"), self.special(mutex=locks)
            self.edge(first, before, group=group, spawn_count=self.chance.number(1, 3))
            self.edge(before, one)
            self.edge(one, last, join=join)
        self.edge(first, last, on=f"group_failed({group})")
        return first, last

    def gated(self, _depth: int) -> Ends:
        """A node whose guard another thread makes true, or somebody outside, or nobody; or one that is not true for a while."""
        chance, first, last = self.chance, self.node(), self.node()
        other = self.node("number")
        guards = [f"has(state.{other}_done)", "has(state.door) && state.door == 'open'", "index == 0 || input.n == 3"]
        guard = chance.pick(guards[:2] if not self._in_branch else guards)
        kind = chance.pick(["action", "timer", "gate"])
        closes = kind != "action" and chance.maybe(0.4)
        if closes:
            guard = f"!has(state.{other}_done) || has(state.{other}_again)"
        one = self.special(guard=guard) if kind == "action" else self._guarded_wait(kind, guard)
        join = self.join("incoming")
        self.edge(first, one)
        self.edge(first, other)
        writer = self._written_after(other, f"state.{other}_done")
        if closes:
            writer = self._written_after(writer, f"state.{other}_again")
        self.edge(one, last, join=join)
        self.edge(one, last, on="failed", join=join)
        self.edge(writer, last, join=join)
        return first, last

    def _written_after(self, node: str, target: str) -> str:
        name = f"n{len(self.nodes)}"
        self._behaves[name] = "none"
        self.nodes.append(ActionNode(id=name, action=f"{PREFIX}number", output={target: "true"}))
        self.edge(node, name)
        return name

    def _guarded_wait(self, kind: str, guard: str) -> str:
        name = f"n{len(self.nodes)}"
        self._behaves[name] = "none"
        timer, gate = TimerNode(id=name, duration_s=2.0, guard=guard), GateNode(id=name, guard=guard)
        self.nodes.append(timer if kind == "timer" else gate)
        return name

    # --- what branches do to each other --------------------------------------------------------------------------

    def effect(self, depth: int) -> Ends:
        """One branch that withdraws, completes or closes what another one does."""
        chance, group = self.chance, self.group()
        first, slow, last = self.node(), self.waiter(("timer", "gate", "timer", "child")), self.node()
        quick, after = self.node("number"), self.node()
        what: dict[str, Any] = chance.pick([{"cancel": (slow,)}, {"cancel_groups": (group,)}, {"complete_groups": (group,)}])
        self.edge(first, slow, group=group, spawn_count=chance.number(1, 3))
        join = Join(over=group, merge=self.merges())
        for on in ("completed", "failed", *(["cancelled"] if chance.maybe(0.5) else [])):
            self.edge(slow, after, on=on, join=join)
        self.edge(first, quick)
        self.edge(quick, last, when=self.condition(quick) if chance.maybe(0.3) else None, **what)
        self.edge(after, last)
        return first, last

    def open_group(self, _depth: int) -> Ends:
        """A group that takes members from outside until it is closed."""
        chance, group = self.chance, self.group()
        first, last, join = self.node(), self.node(), self.join(group)
        self._in_branch += 1
        one = self.node(chance.pick(["number", "list"]))
        self._in_branch -= 1
        fan_out: dict[str, Any] = {"foreach": "[7, 8]"} if chance.maybe(0.5) else {"spawn_count": chance.number(0, 2)}
        self.edge(first, one, group=group, open=True, **fan_out)
        self.edge(one, last, join=join)
        if chance.maybe(0.4):
            closer = self.waiter(("timer",))
            self.edge(first, closer)
            self.edge(closer, last, close_groups=(group,))
        self.edge(first, last, on=f"group_failed({group})")
        return first, last

    def patient_join(self, _depth: int) -> Ends:
        """A join that waits only so long, over a group or over `incoming`."""
        chance = self.chance
        on_timeout: Literal["fail", "proceed_with_available"] = chance.pick(["fail", "proceed_with_available"])
        group = self.group() if chance.maybe(0.6) else "incoming"
        strategy: Literal["all", "m_of_n"] = chance.pick(["all", "m_of_n"])
        join = Join(
            over=group, strategy=strategy, m=2 if strategy == "m_of_n" else None, timeout_s=chance.number(1, 4),
            on_timeout=on_timeout, merge=self.merges(),
        )  # fmt: skip
        first, last = self.node(), self.node()
        for _ in range(chance.number(2, 3)):
            one = self.waiter(("timer", "gate")) if chance.maybe(0.6) else self.node()
            self.edge(first, one, group=None if group == "incoming" else group)
            self.edge(one, last, join=join)
        if group != "incoming":
            self.edge(first, last, on=f"group_failed({group})")
        return first, last

    def blocking_join(self, _depth: int) -> Ends:
        """Several instances of one group, whose joins fire in the order in which they were opened."""
        chance, group = self.chance, self.group()
        first, opener, last = self.node(), self.node(), self.node()
        one = self.node("number")
        join = Join(over=group, blocking=True, merge=self.merges(), strategy=chance.pick(["all", "all", "any"]))
        self.edge(first, opener, spawn_count=chance.number(2, 3))
        self.edge(opener, one, group=group, spawn_count=chance.number(0, 2) if join.strategy == "all" else 2)
        self.edge(one, last, join=join)
        return first, last

    def ending(self, _depth: int) -> Ends:
        """Now and then a branch that ends the run."""
        chance, first, last = self.chance, self.node("number"), self.node()
        status: Literal["completed", "failed"] = chance.pick(["completed", "failed"])
        name = f"n{len(self.nodes)}"
        self._behaves[name] = "none"
        self.nodes.append(TerminateNode(id=name, status=status, output={"output.ended": "'here'"} if chance.maybe(0.5) else {}))
        self.edge(first, name, when="result == 3 && input.n == 3")
        self.edge(first, last, priority=chance.number(0, 1))
        return first, last
