"""What the texts of conditions say about each other."""

from __future__ import annotations

import pytest

from wonder_ray.soundness.conditions import are_possible, parse_condition, pieces


@pytest.mark.parametrize(
    ("one", "other", "same_truth"),
    [
        ("state.a", "state.a", True),
        ("state.a", "!state.a", False),
        ("state.a", "!(state.a)", False),
        ("!!(state.a)", "(state.a)", True),
        ("has(state.a)", "!has(state.a)", False),
        ("!state.list.exists(x, x > 1)", "state.list.exists(x, x > 1)", False),
        ("state.n < 3", "state.n >= 3", False),
        ("state.n < 3", "3 > state.n", True),
        ("state.n <= 3", "!(state.n > 3)", True),
        ("size(state.a) == 0", "size(state.a) != 0", False),
        ("input.x == 'a == b'", "!(input.x == 'a == b')", False),
        ("f(state.a, state.b > 1)", "!(f(state.a, state.b > 1))", False),
    ],
)
def test_opposites_share_their_atom(one: str, other: str, same_truth: bool) -> None:
    first, second = parse_condition(one), parse_condition(other)
    assert first.atom == second.atom
    assert (first.holds == second.holds) is same_truth


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("state.a", "state.b"),
        ("state.a && state.b", "!state.a && state.b"),
        ("state.a < 1 || state.b < 2", "state.a < 1"),
        ("state.a < 1 ? state.b : state.c", "state.a < 1"),
        ("!state.a == state.b", "state.a"),
        ("state.a in [1, 2]", "!(state.b in [1, 2])"),
        ("(state.a) && (state.b)", "state.a"),
        ("!(state.a) || (state.b)", "state.a"),
        ("!state.f(1).g(2)", "state.f(1)"),
    ],
)
def test_what_is_more_than_one_comparison_stands_for_itself(one: str, other: str) -> None:
    assert parse_condition(one).atom != parse_condition(other).atom


@pytest.mark.parametrize(
    ("texts", "possible"),
    [
        (("input.mode == 'a'", "input.mode == 'b'"), False),
        (("state.n == 1", "state.n == 2"), False),
        (("state.n == 1", "state.n == 1.0"), True),
        (("state.n == true", "state.n == null"), False),
        (("input.mode == 'a'", "input.mode == 'a'"), True),
        (("input.mode == 'a'", "input.kind == 'b'"), True),
        (("input.mode == state.a", "input.mode == state.b"), True),
        (("state.n < 1", "state.n < 2"), True),
        (("state.n < 1", "state.n >= 2"), False),
        (("state.n < 2", "state.n >= 1"), True),
        (("state.n <= 1", "state.n >= 1"), True),
        (("state.n <= 1", "state.n >= 1", "state.n != 1"), False),
        (("state.n < 1", "state.n >= 1"), False),
        (("1 > state.n", "state.n > 1"), False),
        (("state.n == 3", "state.n > 3"), False),
        (("state.n == 3", "state.n >= 3"), True),
        (("state.n == 'x'", "state.n >= 3"), True),
        (("state.n == 3", "state.n != 3"), False),
        (("state.n < 'b'", "state.n > 'c'"), True),
    ],
)
def test_what_is_said_of_one_value_may_be_impossible(texts: tuple[str, ...], possible: bool) -> None:
    found = [parse_condition(text) for text in texts]
    assert are_possible((condition.atom, condition.holds) for condition in found) is possible


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("state.a && state.b", 2),
        ("state.a || state.b && state.c", 3),
        ("!(state.a && state.b)", 2),
        ("(state.a || state.b) && state.c < 3", 3),
        ("state.a ? state.b || state.c : state.d", 1),
        ("state.a == 'x && y'", 1),
        ("state.list.exists(x, x > 1 && x < 3)", 1),
    ],
)
def test_what_is_put_together_is_taken_apart(text: str, parts: int) -> None:
    assert len(pieces(parse_condition(text))) == parts


@pytest.mark.parametrize(
    ("text", "constant"),
    [("1 == 2", False), ("'a' == 'a'", True), ("true", True), ("state.x == state.x", True), ("state.x < state.x", False),
     ("state.x >= state.x", True), ("state.x", None), ("1 + 1", None), ("1 / 0 == 1", None)],
)  # fmt: skip
def test_what_names_nothing_is_evaluated(text: str, constant: bool | None) -> None:
    assert parse_condition(text).constant is constant


@pytest.mark.parametrize(
    ("text", "of_input"),
    [("input.a > 1", True), ("size(input.list) > 1", True), ("input.a == 'state'", True), ("input.a == state.a", False),
     ("state.input", False), ("input.list.exists(x, x > 1)", False), ("1 == 1", False)],
)  # fmt: skip
def test_what_is_about_the_input_only_is_known(text: str, of_input: bool) -> None:
    assert parse_condition(text).of_input is of_input
