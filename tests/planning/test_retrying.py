"""How long a retry waits: growth, bounds, and a jitter that a replay repeats."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.definitions.graph import NodeSpec, RetryRule
from wonder_ray.planning.retrying import backoff_us, retry
from wonder_ray.planning.scope import branch_order
from wonder_ray.state import ErrorRecord, Token

RULES = st.builds(
    RetryRule,
    max_attempts=st.integers(1, 10_000),
    backoff_us=st.integers(0, 86_400_000_000),
    multiplier=st.floats(1, 100),
    max_backoff_us=st.integers(0, 604_800_000_000),
    jitter=st.floats(0, 1),
    retry_on=st.just(frozenset("*")),
    non_retryable=st.just(frozenset[str]()),
)


def rule(**change: object) -> RetryRule:
    given_fields = {
        "max_attempts": 3,
        "backoff_us": 1_000_000,
        "multiplier": 2.0,
        "max_backoff_us": 60_000_000,
        "jitter": 0.0,
        "retry_on": frozenset("*"),
        "non_retryable": frozenset(),
    }
    return RetryRule(**given_fields | change)  # type: ignore[arg-type] # fields by name


@given(policy=RULES, failures=st.integers(1, 10_000), token_id=st.text(max_size=8))
def test_a_wait_lies_within_its_bounds(policy: RetryRule, failures: int, token_id: str) -> None:
    wait_us = backoff_us(policy, failures, token_id)
    assert 0 <= wait_us <= policy.max_backoff_us
    full = min(policy.backoff_us * policy.multiplier ** min(failures - 1, 100), policy.max_backoff_us)
    assert wait_us >= int(full * (1 - policy.jitter)) - 1
    assert wait_us == backoff_us(policy, failures, token_id)


@given(policy=RULES, failures=st.integers(1, 200))
def test_waits_without_jitter_never_shrink(policy: RetryRule, failures: int) -> None:
    steady = rule(backoff_us=policy.backoff_us, multiplier=policy.multiplier, max_backoff_us=policy.max_backoff_us)
    assert backoff_us(steady, failures, "t") <= backoff_us(steady, failures + 1, "t")


def test_a_wait_grows_as_its_rule_says_up_to_the_longest() -> None:
    steady, doubled = rule(multiplier=1.0), rule(multiplier=2.0, max_backoff_us=5_000_000)
    assert [backoff_us(steady, n, "t") for n in (1, 2, 50)] == [1_000_000] * 3
    assert [backoff_us(doubled, n, "t") for n in (1, 2, 3, 4, 5)] == [1_000_000, 2_000_000, 4_000_000, 5_000_000, 5_000_000]


def test_jitter_spreads_the_tokens_of_a_fan_out() -> None:
    waits = {backoff_us(rule(jitter=0.5), 1, f"t_{i}") for i in range(100)}
    assert len(waits) > 90
    assert min(waits) < 600_000
    assert max(waits) > 900_000


def spec(*rules: RetryRule) -> NodeSpec:
    return NodeSpec(id="a", kind="action", input=(), output=(), retry=rules, timeout_us=None, batch=True)


def test_the_first_rule_that_names_the_error_decides() -> None:
    node = spec(rule(retry_on=frozenset({"A"}), max_attempts=2), rule(max_attempts=5, non_retryable=frozenset({"C"})))
    token = Token(id="t", ordinal=1, node_id="a", failures={"0": 1})
    assert retry(node, token, ErrorRecord("A", ""), 0) is None
    again = retry(node, token, ErrorRecord("B", ""), 0)
    assert again is not None
    assert again.rule == "1"
    assert retry(node, token, ErrorRecord("C", ""), 0) is None


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["a", "b", "10", "9", "x%2Ey"]), st.integers(0, 120)), max_size=4), max_size=8)
)
def test_paths_are_ordered_by_number_segment_by_segment(paths: list[list[tuple[str, int]]]) -> None:
    tokens = [
        Token(id=str(i), ordinal=i, node_id="x", path_id=".".join(["root", *(f"{name}.{branch}" for name, branch in path)]))
        for i, path in enumerate(paths)
    ]
    ordered = sorted(tokens, key=branch_order)
    for first, second in itertools.pairwise(ordered):
        one, two = first.path_id.split("."), second.path_id.split(".")
        for left, right in zip(one, two, strict=False):
            if left != right:
                assert not (left.isdecimal() and right.isdecimal()) or int(left) < int(right)
                break


@pytest.mark.parametrize("text", ["²", "٣", "x"])
def test_segments_that_are_no_plain_number_are_compared_as_text(text: str) -> None:
    branch_order(Token(id="t", ordinal=1, node_id="x", path_id=f"root.{text}.0"))
