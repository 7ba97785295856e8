"""What becomes of the work of nodes: results, retries, outputs, and results of what waits (I7, R9, R10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.simulation.audit.model import LOSSES, Model, MToken
from tests.simulation.audit.reading import UndefinedError
from tests.simulation.audit.starts import Starts
from tests.simulation.violations import require
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections import Counter

    from tests.simulation.audit.reader import Row
    from tests.simulation.executors import Ledger
    from wonder_ray.definitions.models import Retry

LOSS_ATTEMPTS: Final = 3
ROUNDING_US: Final = 2


class Attempts(Starts):
    """The rules of attempts."""

    def __init__(self, model: Model, decided: Counter[str], ledger: Ledger) -> None:
        super().__init__(model, decided)
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

    def read_success(self) -> None:
        """Read that an executor's result is accepted, and what follows from it."""
        row = self.rows[0]
        token = self._open_attempt(row)
        outcome = self._ledger.outcomes.get((token.id, token.attempt, token.epoch))
        returned = outcome is not None and outcome.error is None
        require(returned, "I7", f"no executor has returned a result for {token}: {row}")
        result = decode(outcome.result) if outcome is not None and outcome.result is not None else None
        self.take("I7", "task.completed", result=result)
        self.read_result(token)

    def read_result(self, token: MToken) -> None:
        """Read the output mapping, and the end of a token whose result has come; in a run that is ending nothing follows."""
        if self.model.status in {"cancelling", "compensating"} and token.undo_of is None:
            return
        node = self.reading.spec(token.node)
        mapping = getattr(node, "output", {})
        undo = getattr(node, "undo", None)
        try:
            writes = self.outputs(token, mapping)
            undone = None
            if undo is not None:
                scope = self.model.scope_of(token, token.result)
                undone = {name: self.reading.evaluate(text, scope) for name, text in undo.input.items()}
        except UndefinedError:
            self.read_end_in_failure(token, "token.failed", "ExpressionError")
            return
        if mapping:
            applied = self.take("R9", "context.output_applied", token_id=token.id, scope_id=token.scope)
            found = [(write["target"], write["value"]) for write in applied["writes"]]
            require(found == writes, "R9", f"{token} must write {writes}: {applied}")
        if undo is not None:
            self.take("R11", "compensation.registered", token_id=token.id, undo_node_id=f"undo:{token.node}", input=undone)
        self.read_end_well(token)

    def read_end_well(self, token: MToken) -> None:
        """Read that a token ends well."""
        self.take("turn", "node_completed", token_id=token.id)
        self.take("turn", "token.completed", token_id=token.id)

    def read_end_in_failure(self, token: MToken, kind: str, error_type: str) -> None:
        """Read that a token fails, or times out."""
        for event in ("node_failed", kind):
            row = self.take("R10", event, token_id=token.id)
            require(row["error"]["type"] == error_type, "R10", f"{token} must fail with {error_type}: {row}")

    def read_failed_attempt(self) -> None:
        """Read that an attempt has failed, and what follows."""
        row = self.rows[0]
        token = self._open_attempt(row)
        self._check_failure(token, row["error"])
        self.take("I7", "task.failed")
        self.read_retry(token, row["error"])

    def read_retry(self, token: MToken, error: Row) -> None:
        """Read that another attempt follows, or that the failed one was the last."""
        rule = self._retry_rule(token, error)
        if rule is None:
            kind = "token.timed_out" if error.get("kind", "user") == "timeout" else "token.failed"
            self.read_end_in_failure(token, kind, error["type"])
            return
        scheduled = self.take("R10", "task.retry_scheduled", token_id=token.id, rule=rule[0])
        wait_us = scheduled["due_us"] - self.now_us
        fits = rule[1] - ROUNDING_US <= wait_us <= rule[2] + ROUNDING_US
        require(fits, "R10", f"it must wait {rule[1]} to {rule[2]}: {scheduled}")

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
        rules: tuple[Retry, ...] = getattr(self.reading.spec(token.node), "retry", ())
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

    def read_requeue(self) -> None:
        """A retry is due, a batch was lost (nobody is charged, and each goes on alone), or a guard holds no longer."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        if token.status == "waiting_for_retry":
            due = token.due_us is not None and token.due_us <= self.now_us
            require(due and not row.get("solo", False), "R10", f"{token} is not due at {self.now_us}: {row}")
        elif token.status == "dispatched":
            require(row.get("solo", False), "I7", f"{token} is not to be made ready: {row}")
        else:
            try:
                holds = self.guard_holds(token)
            except UndefinedError:
                holds = True
            require(not holds and token.wait is not None, "guards", f"the guard of {token} holds, and it is withdrawn: {row}")
            self.count("guards")
        self.take("turn", "token.requeued")

    def read_compute(self) -> None:
        """Read what a compute node writes."""
        token = self.model.tokens[self.rows[0]["token_id"]]
        node = self.reading.nodes[token.node]
        require(node.kind in {"compute", "terminate"}, "turn", f"{token} completes, and nothing calls for it")
        self.check_may_start(token)
        if node.kind == "terminate":
            self.read_result(token)
            return
        try:
            writes = self.outputs(token, node.output)
        except UndefinedError as trouble:
            self.broken("R9", f"{token} has no value: {trouble}", self.peek())
            return
        for target, value in writes:
            row = self.take("R9", "context.updated", token_id=token.id, scope_id=token.scope)
            found = (row["write"]["target"], row["write"]["value"])
            require(found == (target, value), "R9", f"{token} must write {value!r} to {target}: {row}")
        self.read_end_well(token)
