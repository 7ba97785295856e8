"""Reads a WfFormat file into the tasks it records, and says what is wrong with it, task by task and field by field."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wonder_ray.errors import DefinitionError, PayloadError
from wonder_ray.values import decode

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

SCHEMA_VERSIONS: Final = ("1.5", "1.6")
FILE_BYTES_MAX: Final = 256 * 1024 * 1024
ID_LENGTH_MAX: Final = 1_000
_PROBLEMS_SHOWN_MAX: Final = 20
_SHOWN_MAX: Final = 80


class RecordedTask(NamedTuple):
    """One task of a recorded workflow."""

    id: str
    parents: tuple[str, ...]
    """Each once, in the order of the file."""
    runtime_s: float


class Recording(NamedTuple):
    """A recorded workflow: its tasks form no cycle, and parents and children agree."""

    name: str
    description: str
    tasks: tuple[RecordedTask, ...]


class _Problems:
    """What is wrong with a file."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: list[str] = []

    def add(self, where: str, message: str) -> None:
        self._found.append(f"{where}: {message}")

    def stop(self, where: str, message: str) -> DefinitionError:
        """The error for something that hides all else."""
        return DefinitionError(f"{self._source}: {where}: {message}")

    def check(self) -> None:
        """Raise what has been found so far."""
        if len(self._found) == 1:
            raise DefinitionError(f"{self._source}: {self._found[0]}")
        if self._found:
            lines = [f"  {line}" for line in self._found[:_PROBLEMS_SHOWN_MAX]]
            more = len(self._found) - len(lines)
            lines += [f"  ... and {more:,} more"] if more else []
            raise DefinitionError("\n".join([f"{self._source} cannot be imported, for {len(self._found):,} reasons:", *lines]))


class _Listed(NamedTuple):
    """A task as its `specification` lists it."""

    id: str
    parents: tuple[str, ...]
    children: tuple[str, ...]


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """The tasks of a WfFormat file (schema 1.5 or 1.6, at most 256 MB). A parent or child listed twice counts once.

    Raises:
        DefinitionError: The file cannot be read, or is no sound WfFormat; names the tasks and fields.
    """
    path = Path(path)
    problems = _Problems(str(path))
    document = _document(path, problems)
    workflow = _object(document, "workflow", "workflow", problems)
    specification = _object(workflow, "specification", "workflow.specification", problems)
    execution = _object(workflow, "execution", "workflow.execution", problems)
    listed = _listed(_tasks(specification, "workflow.specification.tasks", problems), problems)
    runtimes = _runtimes(_tasks(execution, "workflow.execution.tasks", problems), listed, problems)
    problems.check()
    _check_edges(listed, problems)
    problems.check()
    _check_order(listed, problems)
    problems.check()
    return Recording(
        name=_text(document.get("name")) or path.stem,
        description=_text(document.get("description")),
        tasks=tuple(RecordedTask(task.id, task.parents, runtimes[task.id]) for task in listed.values()),
    )


def _document(path: Path, problems: _Problems) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise problems.stop("the file", f"{size:,} bytes, more than {FILE_BYTES_MAX:,}; remove its lists of files")
        document = decode(path.read_bytes())
    except OSError as error:
        raise problems.stop("the file", f"cannot be read: {error.strerror or error}") from None
    except PayloadError as error:
        raise problems.stop("the file", str(error)) from None
    if not isinstance(document, dict):
        raise problems.stop("the file", f"holds {_kind(document)}; a WfFormat file is an object with schemaVersion and workflow")
    version = document.get("schemaVersion")
    if version not in SCHEMA_VERSIONS:
        known = " and ".join(SCHEMA_VERSIONS)
        what = "is missing" if version is None else f"is {_shown(version)}"
        raise problems.stop("schemaVersion", f"{what}; versions {known} can be imported")
    return document


def _object(holder: Mapping[str, Any], key: str, where: str, problems: _Problems) -> dict[str, Any]:
    found = holder.get(key)
    if not isinstance(found, dict):
        raise problems.stop(where, "is missing" if found is None else f"is {_kind(found)}, not an object")
    return found


def _tasks(holder: Mapping[str, Any], where: str, problems: _Problems) -> list[tuple[str, dict[str, Any]]]:
    """The sound entries of a list of tasks by their ids; the id is what later messages name."""
    found = holder.get("tasks")
    if not isinstance(found, list) or not found:
        raise problems.stop(where, "is missing" if found is None else f"is {_shown(found)}, not a list of tasks")
    sound: dict[str, dict[str, Any]] = {}
    for position, task in enumerate(found):
        place = f"{where}[{position}]"
        if not isinstance(task, dict):
            problems.add(place, f"is {_kind(task)}, not an object")
            continue
        task_id = task.get("id")
        if not isinstance(task_id, str) or not 0 < len(task_id) <= ID_LENGTH_MAX or "\0" in task_id:
            problems.add(f"{place}.id", f"is {_shown(task_id)}, not a text of 1 to {ID_LENGTH_MAX:,} characters without NUL")
        elif task_id in sound:
            problems.add(f"task {_shown(task_id)}", f"is twice in {where}; ids are unique")
        else:
            sound[task_id] = task
    return list(sound.items())


def _listed(tasks: list[tuple[str, dict[str, Any]]], problems: _Problems) -> dict[str, _Listed]:
    return {
        task_id: _Listed(task_id, _ids(task_id, task, "parents", problems), _ids(task_id, task, "children", problems))
        for task_id, task in tasks
    }


def _ids(task_id: str, task: Mapping[str, Any], field: str, problems: _Problems) -> tuple[str, ...]:
    found = task.get(field)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        what = "is missing" if field not in task else f"is {_shown(found)}"
        problems.add(f"task {_shown(task_id)}, {field}", f"{what}; it is a list of task ids, which may be empty")
        return ()
    return tuple(dict.fromkeys(found))


def _runtimes(tasks: list[tuple[str, dict[str, Any]]], listed: Mapping[str, _Listed], problems: _Problems) -> dict[str, float]:
    runtimes = {}
    for task_id, task in tasks:
        where = f"task {_shown(task_id)}"
        found = task.get("runtimeInSeconds")
        if task_id not in listed:
            problems.add(where, "is in workflow.execution.tasks, but not in workflow.specification.tasks")
        elif found is None:
            problems.add(f"{where}, runtimeInSeconds", "is missing")
        elif isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found) or found < 0:
            problems.add(f"{where}, runtimeInSeconds", f"is {_shown(found)}, not a number of at least 0")
        else:
            runtimes[task_id] = float(found)
    executed = {task_id for task_id, _ in tasks}
    for task_id in listed:
        if task_id not in executed:
            problems.add(f"task {_shown(task_id)}", "has no runtime: it is not in workflow.execution.tasks")
    return runtimes


def _check_edges(listed: Mapping[str, _Listed], problems: _Problems) -> None:
    """Parents and children exist, and agree."""
    children = {task.id: frozenset(task.children) for task in listed.values()}
    parents = {task.id: frozenset(task.parents) for task in listed.values()}
    for task in listed.values():
        for field, named, other_field, others in (
            ("parents", task.parents, "children", children),
            ("children", task.children, "parents", parents),
        ):
            where = f"task {_shown(task.id)}, {field}"
            for other in named:
                if other not in listed:
                    problems.add(where, f"there is no task {_shown(other)}")
                elif task.id not in others[other]:
                    problems.add(where, f"names {_shown(other)}, whose {other_field} do not name {_shown(task.id)}")


def _check_order(listed: Mapping[str, _Listed], problems: _Problems) -> None:
    """No task comes before itself."""
    missing = {task.id: len(task.parents) for task in listed.values()}
    ready = [task_id for task_id, count in missing.items() if count == 0]
    while ready:
        task_id = ready.pop()
        del missing[task_id]
        for child in listed[task_id].children:
            missing[child] -= 1
            if missing[child] == 0:
                ready.append(child)
    if missing:
        circle = " -> ".join(map(_shown, _circle(listed, missing)))
        problems.add(f"{len(missing):,} tasks can never start", f"they wait for this cycle, or are part of it: {circle}")


def _circle(listed: Mapping[str, _Listed], stuck: Mapping[str, int]) -> list[str]:
    """A cycle among tasks of which each has a parent among them: some parent to child, back to the first."""
    trail: dict[str, None] = {}
    at = next(iter(stuck))
    while at not in trail:
        trail[at] = None
        at = next(parent for parent in listed[at].parents if parent in stuck)
    upwards = list(trail)
    circle = upwards[upwards.index(at) :][::-1]
    return [circle[-1], *circle]


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."


def _kind(value: object) -> str:
    names: Iterable[tuple[type, str]] = ((dict, "an object"), (list, "a list"), (str, "a text"), (bool, "a boolean"))
    return next((name for kind, name in names if isinstance(value, kind)), "null" if value is None else "a number")
