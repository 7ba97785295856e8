"""What the texts of conditions say about each other."""

from __future__ import annotations

import pytest

from wonder_ray.soundness.conditions import excludes, parse_condition


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


def test_a_value_is_not_equal_to_two_literals() -> None:
    def excluded(one: str, other: str) -> bool:
        return excludes(parse_condition(one).atom, parse_condition(other).atom)

    assert excluded("input.mode == 'a'", "input.mode == 'b'")
    assert excluded("state.n == 1", "state.n == 2")
    assert excluded("state.n == true", "state.n == null")
    assert not excluded("input.mode == 'a'", "input.mode == 'a'")
    assert not excluded("input.mode == 'a'", "input.kind == 'b'")
    assert not excluded("input.mode == state.a", "input.mode == state.b")
    assert not excluded("state.n < 1", "state.n < 2")


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
