"""Whether a failed attempt is made again, and when."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from wonder_ray.decisions import ScheduleRetry

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import NodeSpec, RetryRule
    from wonder_ray.state import ErrorRecord, Token

LOSS_ATTEMPTS = 3
"""Attempts in all when workers, nodes or memory fail under a node that says nothing else: not the user's fault."""
LOSS_KINDS = frozenset({"lost", "oom", "node"})
LOSS_BACKOFF_US = 100_000
_GROWTH_LOG = math.log(1e15)
"""More than any longest wait in microseconds, so that a wait may stop growing there, and the power of no float overflows."""


def retry(node: NodeSpec, token: Token, error: ErrorRecord, now_us: int) -> ScheduleRetry | None:
    """The retry that a failed attempt gets, or None when it was the last."""
    if error.kind in LOSS_KINDS:
        return _retry_loss(node, token, error, now_us)
    if not error.retryable:
        return None
    for position, rule in enumerate(node.retry):
        if not _matches(rule, error.type):
            continue
        failures = token.failures.get(str(position), 0) + 1
        if failures >= rule.max_attempts:
            return None
        wait_us = backoff_us(rule, failures, token.id)
        return ScheduleRetry(token_id=token.id, rule=str(position), due_us=now_us + wait_us, error=error)
    return None


def _matches(rule: RetryRule, error_type: str) -> bool:
    return error_type not in rule.non_retryable and ("*" in rule.retry_on or error_type in rule.retry_on)


def _retry_loss(node: NodeSpec, token: Token, error: ErrorRecord, now_us: int) -> ScheduleRetry | None:
    losses = token.failures.get("lost", 0) + 1
    if runs_once(node) or losses >= LOSS_ATTEMPTS:
        return None
    return ScheduleRetry(token_id=token.id, rule="lost", due_us=now_us + losses * LOSS_BACKOFF_US, error=error)


def runs_once(node: NodeSpec) -> bool:
    """Whether the definition allows one attempt only, whatever happens (it says `max_attempts=1` itself)."""
    return bool(node.retry) and all(rule.max_attempts == 1 for rule in node.retry)


def backoff_us(rule: RetryRule, failures: int, token_id: str) -> int:
    """Microseconds to wait after the n-th failure; the jitter is a function of the token, so that a replay waits the same.

    >>> from wonder_ray.definitions.graph import RetryRule
    >>> rule = RetryRule(3, 1_000_000, 2.0, 60_000_000, 0.0, frozenset("*"), frozenset())
    >>> [backoff_us(rule, n, "t_1") for n in (1, 2, 3)]
    [1000000, 2000000, 4000000]
    """
    growth = 1.0
    if rule.multiplier > 1:
        growth = rule.multiplier ** min(failures - 1, math.ceil(_GROWTH_LOG / math.log(rule.multiplier)))
    wait = min(rule.backoff_us * growth, rule.max_backoff_us)
    digest = hashlib.blake2b(f"{token_id}\x1f{failures}".encode(), digest_size=4).digest()
    share = int.from_bytes(digest, "big") / 2**32
    return round(wait * (1 - rule.jitter * share))
