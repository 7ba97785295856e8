"""What `scripts/demo` runs: the model sweep on a local Ray, watched, then questioned in SQL from its Parquet files.

    python -m wonder_ray.examples.demo --quick

Exit codes: 0 the sweep completed, 1 it did not, 2 it could not be started, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wonder_ray.errors import ServiceUnavailableError, WonderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from wonder_ray.analytics.result import Result
    from wonder_ray.resources.records import RunRecord

COMPLETED: Final = "completed"
FAILED: Final = 1
REFUSED: Final = 2
INTERRUPTED: Final = 130
LIBRARIES: Final = {"sklearn": "scikit-learn", "duckdb": "duckdb"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; gives the exit code."""
    options = _options(arguments)
    try:
        _require_libraries()
        record, storage = _sweep(options.storage, quick=options.quick)
        _tell(record, storage, hint=_hint(options.storage))
    except KeyboardInterrupt:
        print(
            f"\ndemo: interrupted; nothing committed is lost: {_wonder()} resume latest{_hint(options.storage)}", file=sys.stderr
        )
        return INTERRUPTED
    except WonderError as error:
        print(f"demo: {error}", file=sys.stderr)
        return FAILED if isinstance(error, ServiceUnavailableError) else REFUSED
    return 0 if record.status == COMPLETED else FAILED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo", description="A cross-validated model sweep on handwritten digits, on a local Ray; takes less than a minute."
    )
    parser.add_argument(
        "--storage", type=Path, metavar="DIR", help="the storage folder [default: $WONDER_STORAGE, else ~/.wonder/storage]"
    )
    parser.add_argument("--quick", action="store_true", help="a smaller grid")
    return parser.parse_args(arguments)


def _require_libraries() -> None:
    missing = [name for module, name in LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise WonderError(f"the demo needs {' and '.join(missing)}: pip install 'wonder-ray[examples]', or use scripts/demo")


def _sweep(storage: Path | None, *, quick: bool) -> tuple[RunRecord, Path]:
    """Run the sweep to its end; gives its record and the storage folder. The local Ray is stopped before this returns."""
    from wonder_ray.cli.carrying import connected, flush
    from wonder_ray.cli.following import follow
    from wonder_ray.examples.sweep import SweepInput, flow

    given = SweepInput(quick=quick, threshold=0.98) if quick else SweepInput()
    with connected(None, storage) as client:
        run = client.start(flow, given, labels={"started_by": "demo"})
        print(f"run {run.id}: {flow.name}, {given.folds} folds, until the mean accuracy is {given.threshold}", file=sys.stderr)
        record = follow(run)
        flush(client)
        return record, client.storage.root


def _tell(record: RunRecord, storage: Path, *, hint: str) -> None:
    from rich.console import Console

    from wonder_ray.cli.following import tell

    tell(record, str(storage), json=False, hint=hint)
    console = Console(highlight=False, soft_wrap=True)
    if record.status == COMPLETED:
        _ask(console, storage, record.run_id)
    _point(console, storage, record.run_id, hint)


def _ask(console: Console, storage: Path, run_id: str) -> None:
    from wonder_ray.analytics.events import Events
    from wonder_ray.examples.questions import QUESTIONS

    console.print(f"\nNow without Ray: DuckDB, over {storage}/events/**/*.parquet", markup=False)
    events = Events(storage)
    for heading, sql in QUESTIONS.items():
        console.print(f"\n[bold]{heading}[/bold]")
        console.print(textwrap.indent(textwrap.dedent(sql).strip(), "  "), style="dim", markup=False)
        _draw(console, events.sql(sql, {"run": run_id}))


def _draw(console: Console, answer: Result) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, name in enumerate(answer.columns):
        numbers = all(isinstance(row[position], int | float | None) for row in answer.rows)
        table.add_column(name, justify="right" if numbers and answer.rows else "left")
    for row in answer.rows:
        table.add_row(*(Text("-" if value is None else str(value)) for value in row))
    if answer.rows:
        console.print(table)
    else:
        console.print("  none\n")


def _point(console: Console, storage: Path, run_id: str, hint: str) -> None:
    """Where everything is, and what to try next."""
    places = {"its own state": f"runs/{run_id}.sqlite", "its events": "events/", "its logs": "logs/"}
    commands = {
        "show latest": "how it stands",
        "events latest": "what happened, event by event",
        "state latest --at 100": "what it knew after event 100",
        "logs latest": "what its tasks logged",
        f"run {_file()}": "again, with --trace or another --input; Ctrl-C it, then: resume latest",
    }
    console.print(f"[bold]where run {run_id} is[/bold]")
    for what, where in places.items():
        console.print(f"  {what:<14} {storage / where}", markup=False)
    console.print("\n[bold]what to try next[/bold]")
    for command, why in commands.items():
        console.print(f"  {_wonder()} {command}{hint}", markup=False)
        console.print(f"      {why}", style="dim", markup=False)


def _wonder() -> str:
    """How to call the command from here: it is beside this Python, and perhaps not on the PATH."""
    if shutil.which("wonder"):
        return "wonder"
    beside = Path(sys.executable).parent / "wonder"
    return (
        shlex.quote(_relative(beside)) if beside.exists() else f"{shlex.quote(_relative(Path(sys.executable)))} -m wonder_ray.cli"
    )


def _file() -> str:
    from wonder_ray.examples import sweep

    return shlex.quote(_relative(Path(sweep.__file__)))


def _relative(path: Path) -> str:
    """The path as it is shortest to type from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _hint(storage: Path | None) -> str:
    if storage is None or os.environ.get("WONDER_STORAGE") == str(storage):
        return ""
    return f" --storage {shlex.quote(str(storage))}"


if __name__ == "__main__":
    sys.exit(main())
