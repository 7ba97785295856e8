"""What becomes of the work of nodes: dispatches, results, retries, outputs (I7, R9, R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.simulation.audit.incoming import Incoming
from tests.simulation.audit.model import LOSSES, WAITING, Model, MToken
from tests.simulation.audit.reading import UndefinedError
from tests.simulation.violations import require
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections import Counter

    from tests.simulation.audit.reader import Row
    from tests.simulation.executors import Ledger
    from wonder_ray.definitions.models import Retry

LOSS_ATTEMPTS: Final = 3
ROUNDING_US: Final = 2


class Attempts(Incoming):
    """The rules of attempts."""

    def __init__(self, model: Model, decided: Counter[str], ledger: Ledger) -> None:
        super().__init__(model, decided)
        self.now_us = 0
        """The time of the turn that is read."""
        self._ledger = ledger
        self._applied: set[tuple[str, int]] = set()

    def _open_attempt(self, row: Row) -> MToken:
        """The token of an attempt that is open: any other result has no effect (I7)."""
        token = self.model.tokens[row["token_id"]]
        is_open = token.status == "dispatched" and token.attempt == row["attempt"]
        require(is_open, "I7", f"a result is applied to {token}, which has no such open attempt: {row}")
        applied = (token.id, token.attempt)
        require(applied not in self._applied, "I7", f"a result is applied twice: {row}")
        self._applied.add(applied)
        return token

    def _read_success(self) -> None:
        row = self.rows[0]
        token = self._open_attempt(row)
        outcome = self._ledger.outcomes.get((token.id, token.attempt, token.epoch))
        returned = outcome is not None and outcome.error is None
        require(returned, "I7", f"no executor has returned a result for {token}: {row}")
        result = decode(outcome.result) if outcome is not None and outcome.result is not None else None
        self.take("I7", "task.completed", result=result)
        mapping = self.reading.nodes[token.node].output
        try:
            writes = self.outputs(token, mapping)
        except UndefinedError:
            self._read_end_in_failure(token, "token.failed", "ExpressionError")
            return
        if mapping:
            applied = self.take("R9", "context.output_applied", token_id=token.id, scope_id=token.scope)
            found = [(write["target"], write["value"]) for write in applied["writes"]]
            require(found == writes, "R9", f"{token} must write {writes}: {applied}")
        self._read_end_well(token)

    def _read_end_well(self, token: MToken) -> None:
        self.take("turn", "node_completed", token_id=token.id)
        self.take("turn", "token.completed", token_id=token.id)

    def _read_end_in_failure(self, token: MToken, kind: str, error_type: str) -> None:
        for event in ("node_failed", kind):
            row = self.take("R10", event, token_id=token.id)
            require(row["error"]["type"] == error_type, "R10", f"{token} must fail with {error_type}: {row}")

    def _read_failed_attempt(self) -> None:
        row = self.rows[0]
        token = self._open_attempt(row)
        error = row["error"]
        self._check_failure(token, error)
        self.take("I7", "task.failed")
        rule = self._retry_rule(token, error)
        if rule is None:
            kind = "token.timed_out" if error.get("kind", "user") == "timeout" else "token.failed"
            self._read_end_in_failure(token, kind, error["type"])
            return
        scheduled = self.take("R10", "task.retry_scheduled", token_id=token.id, rule=rule[0])
        earliest, latest = rule[1], rule[2]
        wait_us = scheduled["due_us"] - row["turn_now"]
        require(
            earliest - ROUNDING_US <= wait_us <= latest + ROUNDING_US, "R10", f"it must wait {earliest} to {latest}: {scheduled}"
        )

    def _check_failure(self, token: MToken, error: Row) -> None:
        kind = error.get("kind", "user")
        if kind == "timeout":
            due = token.due_us is not None and token.due_us <= self.now_us
            require(due, "turn", f"{token} is timed out before its time, at {self.now_us}")
        elif kind not in {*LOSSES, "cancelled"}:
            outcome = self._ledger.outcomes.get((token.id, token.attempt, token.epoch))
            told = outcome is not None and outcome.error is not None and outcome.error.type == error["type"]
            require(told, "I7", f"no executor has reported {error} for {token}")

    def _retry_rule(self, token: MToken, error: Row) -> tuple[str, float, float] | None:
        """The rule that is charged, and the shortest and longest wait; None when the attempt was the last."""
        rules: tuple[Retry, ...] = getattr(self.reading.nodes[token.node], "retry", ())
        if error.get("kind", "user") in LOSSES:
            losses = token.failures.get("lost", 0) + 1
            once = bool(rules) and all(rule.max_attempts == 1 for rule in rules)
            return None if once or losses >= LOSS_ATTEMPTS else ("lost", losses * 100_000, losses * 100_000)
        if not error.get("retryable", True):
            return None
        for position, rule in enumerate(rules):
            named = "*" in rule.retry_on or error["type"] in rule.retry_on
            if named and error["type"] not in rule.non_retryable:
                failures = token.failures.get(str(position), 0) + 1
                if failures >= rule.max_attempts:
                    return None
                wait = min(rule.backoff_s * rule.multiplier ** (failures - 1), rule.max_backoff_s) * 1_000_000
                return str(position), wait * (1 - rule.jitter), wait
        return None

    def _read_requeue(self) -> None:
        """A retry is due, or a batch was lost: nobody is charged, and each goes on alone."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        if token.status == "waiting_for_retry":
            due = token.due_us is not None and token.due_us <= self.now_us
            require(due and not row.get("solo", False), "R10", f"{token} is not due at {self.now_us}: {row}")
        else:
            require(token.status == "dispatched" and row.get("solo", False), "I7", f"{token} is not to be made ready: {row}")
        self.take("turn", "token.requeued")

    # --- dispatching ---------------------------------------------------------------------------------------------

    def _read_dispatch(self) -> None:
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        node = self.reading.nodes[token.node]
        require(self.model.status == "running", "R11", f"the run is {self.model.status}, and this is dispatched: {row}")
        require(token.status == "pending", "I7", f"{token} is not ready, and is dispatched: {row}")
        first = token.attempt == 0
        given: Any = None
        if first:
            scope = self.model.scope_of(token)
            try:
                given = {name: self.reading.evaluate(text, scope) for name, text in getattr(node, "input", {}).items()}
            except UndefinedError as trouble:
                self.broken("R9", f"{token} has no input: {trouble}", row)
        timeout_s = getattr(node, "timeout_s", None)
        due_us = None if timeout_s is None else self.now_us + round(timeout_s * 1_000_000)
        require(first is row.get("first", True), "I7", f"attempt {token.attempt + 1}: {row}")
        self.take("I7", "task.dispatched", attempt=token.attempt + 1, due_us=due_us, input=given)
        self._check_limits(token)

    def _check_limits(self, token: MToken) -> None:
        """No more branches of a limited fan-out are under way than it allows."""
        for fanout, _ in self.model.frames(token):
            if fanout.limit is None:
                continue
            running: set[int] = set()
            for other in self.model.live():
                gone = other.status == WAITING and other.waits_at in self.model.groups
                untouched = other.status == "pending" and other.attempt == 0 and other.fanout == fanout.id
                if gone or (untouched and other.transition == fanout.transition and other.parent == fanout.parent):
                    continue
                running.update(index for frame, index in self.model.frames(other) if frame.id == fanout.id)
            require(len(running) <= fanout.limit, "limits", f"branches {running} of {fanout} are under way")

    def _read_broken_node(self) -> None:
        """A node whose expressions have no value: a compute node, or an action that was to be dispatched."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        node = self.reading.nodes[token.node]
        require(token.status == "pending", "turn", f"{token} fails without an attempt: {row}")
        try:
            if node.kind == "compute":
                self.outputs(token, node.output)
            else:
                scope = self.model.scope_of(token)
                for text in getattr(node, "input", {}).values():
                    self.reading.evaluate(text, scope)
        except UndefinedError:
            self._read_end_in_failure(token, "token.failed", "ExpressionError")
            return
        self.broken("R10", f"{token} fails, and its expressions have values", row)

    def _read_compute(self) -> None:
        token = self.model.tokens[self.rows[0]["token_id"]]
        node = self.reading.nodes[token.node]
        require(node.kind == "compute" and token.status == "pending", "turn", f"{token} writes, and is not computed")
        try:
            writes = self.outputs(token, node.output)
        except UndefinedError as trouble:
            self.broken("R9", f"{token} has no value: {trouble}", self.peek())
            return
        for target, value in writes:
            row = self.take("R9", "context.updated", token_id=token.id, scope_id=token.scope)
            found = (row["write"]["target"], row["write"]["value"])
            require(found == (target, value), "R9", f"{token} must write {value!r} to {target}: {row}")
        self._read_end_well(token)
