"""All patterns that have a test, and the table of them that the README shows."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).parent


def modules() -> dict[str, ModuleType]:
    """File name -> module, of every file that tests a pattern."""
    return {path.name: importlib.import_module(f"tests.patterns.{path.stem}") for path in sorted(HERE.glob("test_wcp_*.py"))}


def pattern_table() -> str:
    """The README's table: number, name, what carries it, and the test that shows it."""
    rows = ["| # | pattern | carried by | test |", "|---|---|---|---|"]
    for name, module in modules().items():
        pattern = module.PATTERN
        rows.append(f"| {pattern.number} | {pattern.name} | {pattern.carried_by} | [`{name}`](tests/patterns/{name}) |")
    return "\n".join(rows)
