"""`wonder storage`: what lies in a storage folder, what is too old, and doing something about it by hand."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from wonder_ray.cli.options import AsJson, Storage
from wonder_ray.cli.output import print_json, safe, warn

SHOWN_MAX: Final = 5
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_THOUSAND: Final = 1000


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(storage)


def storage(
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove, archive and compact now what is due; the services do so every hour.")
    ] = False,
    trust_clock: Annotated[
        bool, typer.Option("--trust-clock", help="With --apply: believe this machine's clock, though it may have leapt.")
    ] = False,
    json: AsJson = False,
    folder: Storage = None,
) -> None:
    """Show what a storage folder holds, and what retention would do next (or do it now: --apply).

    How long things are kept is set by WONDER_RETENTION_EVENTS_DAYS (90), ..._TRACE_DAYS (10), ..._RUN_FILES_DAYS (90),
    ..._LOGS_DAYS (30, then they are archived), ..._LOG_ARCHIVE_DAYS (never) and ..._EVERY_S (3600).
    Exit code 1 when something that was due could not be done.
    """
    from wonder_ray import upkeep
    from wonder_ray.settings import Retention
    from wonder_ray.storage.layout import Layout

    retention, layout = Retention.from_environment(), Layout(folder)
    if not layout.root.is_dir():
        from wonder_ray.errors import StorageError

        raise StorageError(f"there is no storage folder {layout.root}; nothing was ever started there")
    if apply:
        done = upkeep.apply(layout, retention, trust_clock=trust_clock)
        _tell_done(done, json=json)
        raise typer.Exit(int(bool(done["problems"])))
    found = upkeep.overview(layout, retention)
    if json:
        print_json(found)
    else:
        _tell(found)


def _tell(found: dict[str, Any]) -> None:
    typer.echo(f"storage {found['storage']}, {bytes_text(found['bytes'])}")
    for name, about in found["datasets"].items():
        parts = [f"{bytes_text(about['bytes']):>9}  {about['files']:>6} files"]
        parts += [f"{about['rows']:,} rows"] if "rows" in about else []
        parts += [f"{about['days']} days"] if "days" in about else []
        parts += [f"{about['oldest']} to {about['newest']}"] if about.get("oldest") else []
        parts += [_kept_text(name, about)] if "kept_days" in about else []
        typer.echo(f"  {name:<12}{'  '.join(parts)}")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(found["runs"].items()))
    typer.echo(f"  runs        {counts or 'none'}")
    deleted = found["deleted_runs"]
    if deleted["runs"]:
        typer.echo(f"  deleted     {deleted['runs']} runs, of which {deleted['refused_rows']} late rows were refused")
    every_s = found["retention"]["every_s"]
    who = f"the services look every {every_s} s" if every_s else "WONDER_RETENTION_EVERY_S=0: the services leave it to you"
    typer.echo(f"due ({who}; now: --apply):")
    for line in _deeds(found["next"]) or ["nothing is due"]:
        typer.echo(f"  {line}")


def _kept_text(name: str, about: dict[str, Any]) -> str:
    days = about["kept_days"]
    if days is None:
        return "kept for ever"
    then = ", then archived" if name == "logs" else ""
    since = f" (the oldest till {about['oldest_goes']})" if about["oldest_goes"] else ""
    return f"kept {days} days{then}{since}"


def _tell_done(done: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(done)
    else:
        for line in _deeds(done) or ["nothing was due"]:
            typer.echo(line)
    for problem in done["problems"]:
        warn(problem)


def _deeds(what: dict[str, Any]) -> list[str]:
    lines = []
    for verb in ("removed", "compacted"):
        days = what[verb]
        if days:
            files, rows, size = (sum(day[name] for day in days) for name in ("files", "rows", "size"))
            said = _some([f"{day['stream']} of {day['date']}" for day in days])
            lines.append(f"{verb} {len(days)} days ({files:,} files, {rows:,} rows, {bytes_text(size)}): {said}")
    if what["deleted_runs"]:
        lines.append(f"deleted for good {what['deleted_runs']} runs")
    for name, text in (
        ("logs_archived", "log files archived"),
        ("log_archive_removed", "days of the log archive removed"),
        ("run_files_removed", "files of runs that are over removed"),
    ):
        if what[name]:
            lines.append(f"{len(what[name])} {text}: {_some(what[name])}")
    lines += [f"kept {day}, past its time, since it holds {run}" for day, run in sorted(what["kept"].items())]
    return [safe(line) for line in lines]


def _some(names: list[str]) -> str:
    more = f", ... ({len(names) - SHOWN_MAX} more)" if len(names) > SHOWN_MAX else ""
    return ", ".join(names[:SHOWN_MAX]) + more


def bytes_text(size: float) -> str:
    """A size as people read it.

    >>> [bytes_text(size) for size in (0, 999, 1_500, 2_345_678, 7 * 10**12)]
    ['0 B', '999 B', '1.5 kB', '2.3 MB', '7.0 TB']
    """
    unit = 0
    while size >= _THOUSAND and unit < len(_UNITS) - 1:
        size, unit = size / _THOUSAND, unit + 1
    return f"{size:.0f} {_UNITS[0]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
