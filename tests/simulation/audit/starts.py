"""When the work of a node begins: guards, locks, limits, and what it is given (R9, and what nodes and fan-outs say)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.audit.incoming import Incoming
from tests.simulation.audit.model import WAITING, MToken
from tests.simulation.audit.reading import UndefinedError
from tests.simulation.violations import require

if TYPE_CHECKING:
    from tests.simulation.audit.reader import Row

SECONDS_MAX: Final = 10_000 * 366 * 86_400


class Starts(Incoming):
    """The rules of starts."""

    # --- whether it may ------------------------------------------------------------------------------------------

    def check_may_start(self, token: MToken) -> None:
        """A token starts: the run goes on, its guard holds, it has its locks, and its branch may run."""
        status = self.model.status
        require(status in {"running", "waiting"} or token.undo_of is not None, "R11", f"the run is {status}, and {token} starts")
        require(token.status == "pending", "I7", f"{token} is not ready, and starts")
        try:
            require(self.guard_holds(token), "guards", f"the guard of {token} does not hold, and it starts")
            missing = [name for name in self.locks_of(token) if name not in token.holds]
        except UndefinedError as trouble:
            self.broken("guards", f"{token} starts, and its guard or key has no value: {trouble}", self.peek())
        require(not missing, "locks", f"{token} starts without {missing}")
        self._check_limits(token)

    def guard_holds(self, token: MToken) -> bool:
        """Whether the guard of a token's node is true for it."""
        node = self.reading.nodes.get(token.node)
        return node is None or node.guard is None or self.reading.is_true(node.guard, self.model.scope_of(token))

    def locks_of(self, token: MToken) -> list[str]:
        """The locks that a token needs: its node's mutexes, and its key."""
        node = self.reading.nodes.get(token.node)
        if node is None:
            return []
        names = [f"mutex:{name}" for name in node.mutex]
        if node.concurrency_key is not None:
            value = self.reading.evaluate(node.concurrency_key, self.model.scope_of(token))
            if isinstance(value, bool) or not isinstance(value, (str, int)):
                msg = f"{value!r} is no key"
                raise UndefinedError(msg)
            names.append(f"key:{msgspec.json.encode(value).decode()}")
        return names

    def _check_limits(self, token: MToken) -> None:
        """No more branches of a limited fan-out are under way than it allows."""
        for fanout, branch in self.model.frames(token):
            if fanout.limit is None:
                continue
            running = {branch}
            for other in self.model.live():
                gone = other.status == WAITING and other.waits_at in self.model.groups
                first = other.transition == fanout.transition and other.parent == fanout.parent and other.fanout == fanout.id
                untouched = other.status == "pending" and other.attempt == 0 and first and not other.wanted
                if not gone and not untouched:
                    running.update(index for frame, index in self.model.frames(other) if frame.id == fanout.id)
            require(len(running) <= fanout.limit, "limits", f"branches {running} of {fanout} are under way")

    # --- locks ---------------------------------------------------------------------------------------------------

    def read_request(self) -> None:
        """Read that a token queues up for locks that others hold, or wait for."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        require(token.status == "pending" and not token.wanted, "locks", f"{token} asks for locks again: {row}")
        wanted = [name for name in self.locks_of(token) if name not in token.holds]
        self.take("locks", "mutex.requested", names=wanted)
        self.count("locks")

    def read_acquired(self) -> None:
        """Read that a token gets its locks: they are free for it, and nobody has waited longer."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        node = self.reading.nodes[token.node]
        names = [name for name in self.locks_of(token) if name not in token.holds]
        require(token.status == "pending", "locks", f"{token} does not start, and gets locks: {row}")
        before = token.wanted_at if token.wanted else row["sequence_number"]
        for name in names:
            most = node.concurrency_limit if name.startswith("key:") else 1
            holders = [other for other in self.model.live() if name in other.holds]
            require(len(holders) < most, "locks", f"{name} is held by {holders}, and {token} gets it")
            first = [other for other in self.model.live() if name in other.wanted and other.wanted_at < before]
            require(not first, "locks", f"{first} have waited longer for {name} than {token}, which gets it")
        self.take("locks", "mutex.acquired", names=names)
        self.count("locks")

    # --- what it is given ----------------------------------------------------------------------------------------

    def given(self, token: MToken) -> dict[str, Any]:
        """The rendered input mapping; raises `UndefinedError`."""
        scope = self.model.scope_of(token)
        mapping: dict[str, str] = getattr(self.reading.spec(token.node), "input", {})
        return {name: self.reading.evaluate(text, scope) for name, text in mapping.items()}

    def deadline_us(self, token: MToken) -> int | None:
        """When what begins now is out of time."""
        timeout_s: float | None = getattr(self.reading.spec(token.node), "timeout_s", None)
        return None if timeout_s is None else self.now_us + round(timeout_s * 1_000_000)

    def read_dispatch(self) -> None:
        """Read that an attempt is sent to an executor."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        require(not self.reading.is_inline(token.node), "turn", f"{token} is no task: {row}")
        self.check_may_start(token)
        first = token.attempt == 0
        given: Any = None
        if first:
            try:
                given = self.given(token) if token.undo_of is None else self.model.undos[token.undo_of][1]
            except UndefinedError as trouble:
                self.broken("R9", f"{token} has no input: {trouble}", row)
        require(first is row.get("first", True), "I7", f"attempt {token.attempt + 1}: {row}")
        self.take("I7", "task.dispatched", attempt=token.attempt + 1, due_us=self.deadline_us(token), input=given)

    def read_gate_opened(self) -> None:
        """Read that a gate begins to ask; an answer that came before is looked at at once."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        node = self.reading.nodes[token.node]
        self.check_may_start(token)
        scope = self.model.scope_of(token)
        assignee, steps = getattr(node, "assignee", None), sorted(getattr(node, "escalate", ()), key=lambda step: step.after_s)
        deadline_us = self.deadline_us(token)
        times = [time for time in (deadline_us, self.now_us + round(steps[0].after_s * 1_000_000) if steps else None) if time]
        self.take(
            "turn", "gate.opened", deadline_us=deadline_us, due_us=min(times, default=None),
            assignee=None if assignee is None else self.reading.evaluate(assignee, scope), shown=self.given(token) or None,
        )  # fmt: skip
        self.read_kept_answers(token)

    def read_kept_answers(self, token: MToken) -> None:
        """Read what a gate makes of answers that were kept for it."""
        raise NotImplementedError

    def read_awaited(self) -> None:
        """Read that a token waits for a signal; one that was kept is consumed at once, the oldest first."""
        token = self.model.tokens[self.rows[0]["token_id"]]
        node = self.reading.nodes[token.node]
        self.check_may_start(token)
        name = getattr(node, "signal", None) or node.id
        self.take("turn", "signal.awaited", signal=name, deadline_us=self.deadline_us(token))
        kept = [kept for kept in self.model.kept.values() if kept.kind == "signal" and kept.name == name]
        if kept and getattr(node, "retained", True):
            self.take("I7", "signal.consumed", token_id=token.id, signal_id=kept[0].id)
            self.read_result(token)

    def read_timer(self) -> None:
        """Read that a token waits for a time; one that has passed already goes off at once."""
        token = self.model.tokens[self.rows[0]["token_id"]]
        self.check_may_start(token)
        try:
            due_us = self._timer_due_us(token)
        except UndefinedError as trouble:
            self.broken("R9", f"{token} has no time: {trouble}", self.peek())
        self.take("turn", "timer.set", due_us=due_us)
        if due_us <= self.now_us:
            self.take("turn", "timer.fired", token_id=token.id)
            self.read_result(token)

    def _timer_due_us(self, token: MToken) -> int:
        node, scope = self.reading.nodes[token.node], self.model.scope_of(token)
        until, duration = getattr(node, "until", None), getattr(node, "duration_s", None)
        value = self.reading.evaluate(until, scope) if until is not None else duration
        if isinstance(duration, str):
            value = self.reading.evaluate(duration, scope)
        if isinstance(value, str):
            try:
                return round(dt.datetime.fromisoformat(value).timestamp() * 1_000_000)
            except ValueError:
                raise UndefinedError(value) from None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= SECONDS_MAX:
            raise UndefinedError(repr(value))
        return round(value * 1_000_000) + (0 if until is not None else self.now_us)

    def read_child_requested(self) -> None:
        """Read that a child run is asked for."""
        token = self.model.tokens[self.rows[0]["token_id"]]
        node = self.reading.nodes[token.node]
        self.check_may_start(token)
        require(self.model.depth < self.reading.definition.max_depth, "turn", f"{token} starts a child run too deep")
        workflow, version = getattr(node, "workflow", ""), getattr(node, "version", "latest")
        itself = self.model.version if workflow == self.model.name else None
        self.take(
            "turn", "subworkflow.requested", attempt=token.attempt + 1, workflow=workflow,
            version=itself if version == "latest" else version, input=self.given(token) or None, due_us=self.deadline_us(token),
        )  # fmt: skip

    def read_result(self, token: MToken) -> None:
        """Read what follows from a result that has come."""
        raise NotImplementedError

    # --- why it cannot -------------------------------------------------------------------------------------------

    def start_error(self, token: MToken) -> str | None:
        """The type of the error that keeps a token from starting; None where nothing does."""
        node = self.reading.nodes.get(token.node)
        try:
            if not self.guard_holds(token):
                return None
            self.locks_of(token)
            self.given(token)
            match getattr(node, "kind", None):
                case "compute" if node is not None:
                    self.outputs(token, node.output)
                case "gate":
                    assignee = getattr(node, "assignee", None)
                    if assignee is not None:
                        self.reading.evaluate(assignee, self.model.scope_of(token))
                case "timer":
                    self._timer_due_us(token)
                case "subworkflow" if self.model.depth >= self.reading.definition.max_depth:
                    return "DepthLimitExceeded"
        except UndefinedError:
            return "ExpressionError"
        return None

    def may_be_stuck(self, row: Row) -> bool:
        """Whether nothing that is live can go on: all waits at joins, or is held back by guards and locks."""
        live = list(self.model.live())
        waits = all(token.status in {WAITING, "pending"} for token in live)
        return waits and not self.model.children and not any(group.is_open for group in self.model.groups.values())
