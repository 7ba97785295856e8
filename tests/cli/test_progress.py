"""What people see while a run goes on."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from wonder_ray.cli.progress import Counts, add, counts_of, line, render
from wonder_ray.state import TokenStatus

if TYPE_CHECKING:
    from wonder_ray.planning.queries import Waiting


@dataclass(frozen=True)
class Fake:
    """A snapshot."""

    status: str = "running"
    nodes: dict[str, dict[str, int]] = field(default_factory=dict)
    in_flight: int = 0
    waiting: tuple[Waiting, ...] = ()
    undos: int = 0


MIDDLE = Fake(
    nodes={
        "list": {"completed": 1},
        "fetch": {"pending": 50, "dispatched": 8, "completed": 40, "waiting_for_retry": 1, "failed": 1},
    }
)


def drawn(snapshot: Fake, elapsed_s: float, width: int = 80, **options: float) -> list[str]:
    """The table as text, without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(snapshot, elapsed_s, **options))  # type: ignore[arg-type] # the options of `render`
    assert isinstance(console.file, io.StringIO)
    return [text.rstrip() for text in console.file.getvalue().splitlines() if text.strip()]


def test_the_table_counts_tokens_by_node() -> None:
    title, *rows = [row.split() for row in drawn(MIDDLE, 12.5, rate=3.25) if row.strip("─ ")]
    assert " ".join(title) == "running 12.5 s 3.2 tokens/s"
    assert rows == [
        ["node", "waiting", "running", "done", "failed"],
        ["list", "-", "-", "1", "-"],
        ["fetch", "51", "8", "40", "1"],
        ["all", "2", "nodes", "51", "8", "41", "1"],
    ]


def test_cancelled_tokens_have_a_column_when_there_are_some() -> None:
    table = drawn(Fake("cancelled", {"a": {"cancelled": 3, "completed": 1}}), 61)
    assert table[0].startswith("cancelled  1:01")
    assert table[1].split() == ["node", "waiting", "running", "done", "failed", "cancelled"]
    assert table[3].split() == ["a", "-", "-", "1", "-", "3"]


def test_a_run_that_has_nothing_yet_can_be_drawn() -> None:
    assert drawn(Fake("queued"), 0.0)[0] == "queued  0.0 s  0.0 tokens/s"
    assert line(Fake("queued"), 0.0) == "   0.0 s  queued  0/0 done  0.0 tokens/s"


def test_of_many_nodes_the_live_ones_are_shown_in_order() -> None:
    nodes = {f"n{i}": {"dispatched" if i >= 95 else "completed": 1} for i in range(100)} | {"bad": {"failed": 1}}
    table = drawn(Fake(nodes=nodes), 1, rows_max=7)
    assert [row.split()[0] for row in table[3:10]] == ["n0", "n95", "n96", "n97", "n98", "n99", "bad"]
    assert table[-1].strip() == "... and 94 more nodes"
    assert any(row.split()[:3] == ["all", "101", "nodes"] for row in table)


def test_a_narrow_terminal_and_odd_names_break_nothing() -> None:
    table = drawn(Fake(nodes={"[red]" + "x" * 200: {"completed": 1}}), 1, width=50)
    assert "[red]xx" in table[3]
    assert all(len(row) <= 50 for row in table)


def test_one_line_says_the_same() -> None:
    assert (
        line(MIDDLE, 12.5, rate=3.25) == "  12.5 s  running  41/101 done  51 waiting  8 running  1 failed  at fetch  3.2 tokens/s"
    )
    many = Fake(nodes={f"n{i}": {"pending": 1} for i in range(9)})
    assert "at n0, n1, n2, ... (9 nodes)" in line(many, 3_725)
    assert line(many, 3_725).startswith(" 1:02:05")


def test_a_run_that_takes_work_back_says_how_much_is_left() -> None:
    snapshot = Fake("compensating", {"a": {"completed": 3}}, undos=2)
    assert line(snapshot, 1).split("  ")[-3:-1] == ["compensating, 2 to take back", "3/3 done"]
    assert drawn(snapshot, 1)[0].startswith("compensating, 2 to take back  1.0 s")


@pytest.mark.parametrize("status", list(TokenStatus))
def test_every_token_status_is_counted_once(status: TokenStatus) -> None:
    assert counts_of({str(status): 3}).total == 3


def test_sums() -> None:
    assert add([]) == Counts()
    assert add([Counts(1, 2, 3, 4, 5), Counts(1, 1, 1, 1, 1)]) == Counts(2, 3, 4, 5, 6)
    assert Counts(1, 2, 3, 4, 5).live == 3
