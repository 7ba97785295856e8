from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.events.spans import Span, boundaries_of, insert, judge, mark_of, subtract

HELD = [Span(1, 10, 1), Span(11, 14, 2)]


def spans(maximum: int = 30) -> st.SearchStrategy[list[Span]]:
    """Spans as a log holds them: apart, in order, epochs that never fall."""

    def build(rows: list[tuple[int, int]]) -> list[Span]:
        epoch = 0
        pieces = []
        for number, rise in sorted(rows, key=lambda row: row[0]):
            epoch += rise
            pieces.append(Span(number, number, epoch))
        return insert([], pieces)

    row = st.tuples(st.integers(1, maximum), st.integers(0, 1))
    return st.lists(row, unique_by=lambda r: r[0], max_size=maximum).map(build)


def numbers(held: list[Span]) -> dict[int, int]:
    return {number: span.epoch for span in held for number in range(span.first, span.last + 1)}


def test_the_mark_is_the_end_of_the_unbroken_history() -> None:
    assert mark_of([]) == 0
    assert mark_of(HELD) == 14
    assert mark_of([Span(1, 3, 1), Span(5, 9, 1)]) == 3
    assert mark_of([Span(2, 3, 1)]) == 0


def test_boundaries_name_each_epoch_once_and_nothing_beyond_the_mark() -> None:
    assert boundaries_of([*HELD, Span(15, 20, 4), Span(30, 40, 5)]) == [(1, 1), (11, 2), (15, 4)]


def test_rows_that_are_held_from_the_same_epoch_are_duplicates() -> None:
    verdict = judge(HELD, [Span(9, 10, 1), Span(11, 12, 2)])
    assert (verdict.outcome, verdict.missing) == ("ok", [])


def test_a_row_that_is_held_from_another_epoch_is_a_conflict() -> None:
    verdict = judge(HELD, [Span(14, 20, 3)])
    assert (verdict.outcome, verdict.missing) == ("conflict", [])
    assert "row 14" in verdict.message


def test_an_epoch_that_falls_is_a_conflict() -> None:
    assert judge(HELD, [Span(15, 20, 1)]).outcome == "conflict"


def test_rows_beyond_the_next_are_a_gap() -> None:
    verdict = judge(HELD, [Span(17, 20, 2)])
    assert (verdict.outcome, verdict.message) == ("gap", "rows 15 to 16 are missing")


def test_refilling_a_hole_stores_only_what_is_missing() -> None:
    held = [Span(1, 10, 1), Span(21, 30, 1)]
    assert judge(held, [Span(6, 40, 1)]).missing == [Span(11, 20, 1), Span(31, 40, 1)]


@given(spans(), spans())
def test_subtract_and_insert_agree_with_sets_of_rows(held: list[Span], incoming: list[Span]) -> None:
    missing = subtract(incoming, held)
    assert numbers(missing) == {n: e for n, e in numbers(incoming).items() if n not in numbers(held)}
    assert numbers(insert(held, missing)) == numbers(incoming) | numbers(held)


@given(spans())
def test_inserting_merges_neighbours_of_one_epoch(held: list[Span]) -> None:
    again = insert([], [Span(n, n, e) for n, e in numbers(held).items()])
    assert again == held
    assert all(a.last + 1 < b.first or a.epoch != b.epoch for a, b in itertools.pairwise(again))
