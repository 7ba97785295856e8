"""Targets: where mappings and merges write."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.definitions.targets import DEPTH_MAX, Target, get_in, parse_target, set_in
from wonder_ray.errors import DefinitionError, ExpressionError

keys = st.text(st.characters(exclude_characters="\x00\n\r", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["a", "in", "null"]
)
paths = st.lists(keys, min_size=1, max_size=DEPTH_MAX).map(tuple)


@pytest.mark.parametrize(
    ("text", "path", "canonical"),
    [
        ("state.a", ("a",), "state.a"),
        ("output.a.b_1", ("a", "b_1"), "output.a.b_1"),
        ("state.a['x-y'].b", ("a", "x-y", "b"), "state.a['x-y'].b"),
        ('state["a"]["it\'s"]', ("a", "it's"), "state.a['it\\'s']"),
        (" state[ 'in' ] ", ("in",), "state['in']"),
        ("state['']", ("",), "state['']"),
        (r"state['a\\b']", ("a\\b",), r"state['a\\b']"),
        ("state['é']", ("é",), "state['é']"),
    ],
)
def test_reads_paths_and_spells_them_in_one_way(text: str, path: tuple[str, ...], canonical: str) -> None:
    target = parse_target(text)
    assert target.path == path
    assert target.text == canonical
    assert parse_target(canonical) == target


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("input.a", "must start with state or output"),
        ("states.a", "must start with state or output"),
        ("", "must start with state or output"),
        ("state", "names no key"),
        ("state.", "write .key or"),
        ("state.a[0]", "not positions of a list"),
        ("state.a[b]", "write .key or"),
        ("state.a-b", "write .key or"),
        ("state..a", "write .key or"),
        ("state['a", "write .key or"),
        ("state['a\x00']", "write .key or"),
        (r"state['\n']", "write .key or"),
        ("state.a\n", "write .key or"),
        ("state" + ".a" * (DEPTH_MAX + 1), "flatten it"),
        ("state." + "a" * 2000, "shorter keys"),
        ("state[" * 150, "write .key or"),
        (3, "a target is a text"),
    ],
)
def test_refuses_what_is_no_path_and_says_what_to_write(text: str, mend: str) -> None:
    with pytest.raises(DefinitionError, match=mend) as caught:
        parse_target(text)
    assert len(str(caught.value)) < 400


@settings(deadline=None)
@given(root=st.sampled_from(["state", "output"]), path=paths)
def test_the_canonical_text_round_trips(root: str, path: tuple[str, ...]) -> None:
    target = Target(root, path)  # type: ignore[arg-type] # hypothesis does not know literals
    assert parse_target(target.text) == target


@settings(deadline=None)
@given(path=paths, value=st.integers(0, 9) | st.lists(st.booleans()))
def test_as_an_expression_a_target_reads_what_was_written(path: tuple[str, ...], value: int | list[bool]) -> None:
    tree: dict[str, object] = {}
    set_in(tree, path, value)  # type: ignore[arg-type] # JSON
    assert get_in(tree, path) == value
    assert compile_expression(Target("state", path).text).evaluate({"state": tree}) == value  # type: ignore[dict-item] # JSON


def test_writing_keeps_the_neighbours() -> None:
    tree = {"a": {"b": 1}, "c": 2}
    set_in(tree, ("a", "d", "e"), 3)
    assert tree == {"a": {"b": 1, "d": {"e": 3}}, "c": 2}


@pytest.mark.parametrize("standing", [None, 1, "x" * 500, [1], True])
def test_writing_below_what_is_no_object_is_an_error_and_changes_nothing(standing: object) -> None:
    tree = {"a": {"b c": standing}}
    before = copy.deepcopy(tree)
    with pytest.raises(
        ExpressionError, match=r"cannot write \.a\['b c'\]\.d: \.a\['b c'\] holds .*, which is no object"
    ) as caught:
        set_in(tree, ("a", "b c", "d"), 1)
    assert tree == before
    assert len(str(caught.value)) < 300


def test_an_empty_path_cannot_be_written_and_reads_the_whole() -> None:
    with pytest.raises(ExpressionError, match="empty path"):
        set_in({}, (), 1)
    assert get_in({"a": 1}, ()) == {"a": 1}


def test_reading_what_is_not_there_gives_the_default() -> None:
    assert get_in({"a": None}, ("a", "b"), 7) == 7
    assert get_in({}, ("a",)) is None
