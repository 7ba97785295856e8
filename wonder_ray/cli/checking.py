"""`wonder doctor`: whether this machine and a storage folder are fit to run on, and what is left to be done there."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Final

import typer

from wonder_ray.addresses import RAY_MEND, check_ray_version
from wonder_ray.cli import openness
from wonder_ray.cli.carrying import storage_hint
from wonder_ray.cli.check import Check
from wonder_ray.cli.options import AsJson, Storage
from wonder_ray.cli.output import print_json, safe
from wonder_ray.cli.ray_processes import ray_processes
from wonder_ray.errors import StorageError, WonderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wonder_ray.reading import Reader

PYTHON_MIN: Final = (3, 11)
DISK_WARN: Final = 5 * 2**30
DISK_FAIL: Final = 2**28
SHOWN_MAX: Final = 5
DROPS_SINCE_US: Final = 24 * 3600 * 1_000_000


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(doctor)


def doctor(json: AsJson = False, storage: Storage = None) -> None:
    """Check Python, Ray, SQLite, what is open to others, and what is left to be done. Exit code 1 when something fails."""
    from wonder_ray.reading import Reader

    reader = Reader(storage)
    checks = list(examine(reader, storage_hint(storage)))
    failed = any(check.state == "fail" for check in checks)
    if json:
        print_json({"ok": not failed, "storage": str(reader.layout.root), "checks": [check._asdict() for check in checks]})
        raise typer.Exit(int(failed))
    typer.echo(f"storage {reader.layout.root}")
    for check in checks:
        typer.echo(f"{check.state:<5} {check.name}: {safe(check.message)}")
        if check.mend:
            typer.echo(f"      {check.mend}")
    raise typer.Exit(int(failed))


def examine(reader: Reader, hint: str = "") -> Iterator[Check]:
    """All checks; one that cannot be made is a failure of its own. `hint` is what other commands need to find this storage."""
    yield check_python()
    yield _guarded("ray", check_ray)
    yield _guarded("sqlite", check_sqlite)
    yield from check_ray_security()
    yield check_folder(reader.layout.root)
    if not reader.layout.root.is_dir():
        return
    yield check_filesystem(reader.layout.root)
    yield check_disk(reader.layout.root)
    yield _guarded("files", lambda: openness.check_files(reader.layout))
    yield from check_credentials(reader, hint)
    yield _guarded("runs", lambda: check_runs(reader, hint))
    yield _guarded("event log", lambda: check_event_log(reader.layout.root))
    yield _guarded("logs", lambda: check_drops(reader, hint))


def check_ray_security() -> Iterator[Check]:
    """What a Ray on this host leaves open."""
    running = ray_processes()
    yield openness.check_auth(running)
    yield openness.check_dashboard(running)


def check_credentials(reader: Reader, hint: str = "") -> Iterator[Check]:
    """Master key, API keys and secrets; where the registry cannot be read, that alone is told."""
    from wonder_ray.clock import SystemClock
    from wonder_ray.resources.access_records import Credentials
    from wonder_ray.resources.reader import ResourcesReader

    stored = Credentials()
    try:
        if has_registry(reader):
            with ResourcesReader(reader.layout.root) as registry:
                stored = registry.credentials()
    except WonderError as error:
        yield Check("keys", "fail", str(error))
        return
    yield openness.check_master_key(reader.layout, stored.keys, stored.secrets)
    yield openness.check_keys(stored.keys, SystemClock().now_us(), hint)
    yield openness.check_secret_files(stored.secrets)


def has_registry(reader: Reader) -> bool:
    """Whether anything was ever started in this folder."""
    layout = reader.layout
    return layout.resources.is_file() or layout.resources_url.is_file() or "WONDER_RESOURCES_URL" in os.environ


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except metadata.PackageNotFoundError as error:
        return Check(name, "fail", f"{error.name} is not installed", f"pip install {error.name}")
    except (WonderError, OSError) as error:
        return Check(name, "fail", str(error))


def check_python() -> Check:
    """The interpreter."""
    found = platform.python_version()
    if sys.version_info[:2] < PYTHON_MIN:
        return Check("python", "fail", f"Python {found}", f"wonder-ray needs {'.'.join(map(str, PYTHON_MIN))} or newer")
    return Check("python", "ok", f"Python {found}, {platform.system()} {platform.machine()}")


def check_ray(version: str | None = None) -> Check:
    """The Ray that is installed; it is not imported."""
    try:
        found = check_ray_version(version)
    except WonderError as error:
        return Check("ray", "fail", str(error).partition(": ")[0], RAY_MEND)
    return Check("ray", "ok", f"Ray {found}")


def check_sqlite(version: str | None = None) -> Check:
    """The SQLite that apsw carries; its own version begins with it."""
    from wonder_ray.storage.opening import check_version

    found = ".".join((version or metadata.version("apsw")).split(".")[:3])
    try:
        check_version(found)
    except StorageError as error:
        return Check("sqlite", "fail", str(error), "pip install -U apsw")
    return Check("sqlite", "ok", f"SQLite {found} (of apsw)")


def check_folder(root: Path) -> Check:
    """Whether the storage folder can be written, and by its owner only."""
    name = "storage"
    if not root.exists():
        above = next(parent for parent in root.parents if parent.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            return Check(name, "fail", f"{root} is not there, and {above} is not writable", "choose another with --storage")
        return Check(name, "ok", f"{root} is not there yet; the first run makes it")
    if not root.is_dir():
        return Check(name, "fail", f"{root} is no folder", "choose another with --storage or WONDER_STORAGE")
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return Check(name, "fail", f"{root} is not writable by this user", "change its owner, or choose another with --storage")
    mode = root.stat().st_mode & 0o777
    if mode & openness.OTHERS:
        return Check(
            name,
            "warn",
            f"{root} is open to others (mode {mode:o}); it holds inputs and code",
            f"chmod 700 {shlex.quote(str(root))}",
        )
    return Check(name, "ok", f"writable, mode {mode:o}")


def check_filesystem(root: Path) -> Check:
    """SQLite needs a local disk."""
    from wonder_ray.storage.filesystem import refuse_network

    try:
        refuse_network(root)
    except StorageError as error:
        return Check("filesystem", "fail", str(error))
    return Check("filesystem", "ok", "local")


def check_disk(root: Path, free: int | None = None) -> Check:
    """Room to write."""
    free = shutil.disk_usage(root).free if free is None else free
    said = f"{free / 2**30:.1f} GB free"
    if free < DISK_WARN:
        return Check("disk", "fail" if free < DISK_FAIL else "warn", said, "a full disk stops runs (they go on later): free some")
    return Check("disk", "ok", said)


def check_runs(reader: Reader, hint: str = "") -> Check:
    """Runs that nothing works on."""
    if not has_registry(reader):
        return Check("runs", "ok", "nothing was started here yet")
    unfinished = reader.unfinished()
    left = [record.run_id for record in unfinished if reader.coordinator(record.run_id) is None]
    if not left:
        return Check("runs", "ok", f"{len(unfinished)} unfinished, each with its coordinator")
    more = f" and {len(left) - SHOWN_MAX} more" if len(left) > SHOWN_MAX else ""
    message = f"{len(left)} unfinished without a coordinator on this host: {', '.join(left[:SHOWN_MAX])}{more}"
    return Check("runs", "warn", message, f"wonder resume {left[0]}{hint}   (or: wonder cancel {left[0]}{hint})")


def check_event_log(root: Path) -> Check:
    """Events that are acknowledged and in no Parquet file, though no service is there to put them into one."""
    from wonder_ray.events.commit_log import CommitLog
    from wonder_ray.events.layout import EventLayout
    from wonder_ray.storage.lock import read_holder

    name, waiting, left = "event log", 0, list[str]()
    for path in EventLayout(root).logs():
        log = CommitLog.read(path)
        if log is None:
            continue
        with log:
            rows = log.unsealed()[0]
        waiting += rows
        if rows and read_holder(path.with_suffix(".lock")) is None:
            left.append(f"{path.name} ({rows} events)")
    if left:
        mend = "any run on this storage puts them into files; readers of wonder-ray see them already"
        return Check(name, "warn", f"left by a service that is gone: {', '.join(left)}", mend)
    return Check(name, "ok", f"{waiting} events wait for their file" if waiting else "every event is in a Parquet file")


def check_drops(reader: Reader, hint: str = "") -> Check:
    """Log lines that were lost."""
    from wonder_ray.clock import SystemClock

    lines = reader.logs(event_type="log_lines_dropped", since_us=SystemClock().now_us() - DROPS_SINCE_US)
    if lines:
        mend = f"wonder logs --event-type log_lines_dropped{hint}"
        return Check("logs", "warn", f"lines were dropped {len(lines)} times in the last day; at last: {lines[-1].message}", mend)
    if reader.skipped:
        path, reason = next(iter(reader.skipped.items()))
        return Check("logs", "warn", f"{path} cannot be read: {reason}")
    return Check("logs", "ok", "no line was dropped in the last day")
