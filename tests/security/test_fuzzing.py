"""What `scripts/fuzz.py` starts from, and some of what that becomes, at every door."""

from __future__ import annotations

import random
import time

import pytest

from tests.security.fuzzing import DOORS, SCOPE, BrokenRuleError, knock, mutated, seeds
from wonder_ray.definitions.expressions import compile_expression

MUTANTS = 1_000


@pytest.mark.parametrize("door", DOORS)
def test_what_knocks_is_let_in_or_refused_clearly_and_soon(door: str) -> None:
    chance = random.Random(7)
    texts = seeds(door)
    mutants = [mutated(chance.choice(texts), chance) for _ in range(MUTANTS)]
    started = time.process_time()
    answers = {knock(door, text) for text in [*texts, *mutants]}
    assert answers == {"accepted", "refused"}
    assert time.process_time() - started < 20


def test_what_is_no_clear_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise KeyError("x")

    monkeypatch.setitem(DOORS, "expression", broken)
    with pytest.raises(KeyError):
        knock("expression", "1")


def test_a_short_cut_that_gives_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    expression = compile_expression("item")
    assert knock("expression", "item") == "accepted"
    monkeypatch.setattr(type(expression), "evaluate", lambda _self, _scope: [])
    with pytest.raises(BrokenRuleError, match="short cut"):
        knock("expression", "item")
    assert SCOPE["item"]
