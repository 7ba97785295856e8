"""WfFormat: recorded scientific workflows (Pegasus, Nextflow, Makeflow, ...) as definitions.

The format is the one of WfCommons, JSON schema 1.5 and 1.6. A task becomes a node that sleeps as long as the recorded one ran,
times a factor, and gives a digest of its id and its parents' digests (`wfformat_actions`). An edge becomes a transition with a
join over `incoming`, so that any directed acyclic graph can be run. Files, machines and commands are left out.

Per task with parents, the join merges the parents' digests into a place of the task's own (`state.parents.<id>`), which is
all that its input reads: no expression sees more than one task's parents, and the events of a run are linear in the edges.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING, Final

from wonder_ray.definitions import models
from wonder_ray.definitions.joins import All, Append
from wonder_ray.definitions.targets import Target
from wonder_ray.definitions.validation import check
from wonder_ray.errors import DefinitionError
from wonder_ray.ids import NAME_PATTERN
from wonder_ray.interop import wfformat_actions
from wonder_ray.interop.wfformat_file import RecordedTask, Recording, read_recording

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_ODD: Final = re.compile(r"[^A-Za-z0-9_.\-]+")
_MAPPED: Final = "task--"
"""How a node id begins that is not the task's own id."""
_SLUG_LENGTH_MAX: Final = 80


def import_wfformat(path: str | os.PathLike[str], *, runtime_scale: float = 0.0) -> models.WorkflowDefinition:
    """A recorded workflow as a definition, checked. Its actions come with wonder-ray, so it needs no code bundle.

    A run's output is `{"digest": ..., "tasks": <number of tasks>}`. The digest is the sha256 (hex) of the sorted digests of all
    tasks without children, joined by `|`; a task's digest is that of `id + "|" + "|".join(sorted(digests of its parents))`. So it
    depends on the graph only, never on the order of execution, retries or crashes.

    Args:
        path: A WfFormat file, schema 1.5 or 1.6.
        runtime_scale: Seconds to sleep per recorded second: 0 only computes digests, 1 takes as long as the recording.

    Returns:
        One node per task, whose id is the task's (`node_ids` tells how ids that no node may have are changed), and a node
        `finish` behind all tasks without children.

    Raises:
        DefinitionError: The file cannot be read or is not sound: names the tasks and fields.
        ValueError: `runtime_scale` is negative or not finite.

    Example:
        >>> import_wfformat("montage.json", runtime_scale=0.001).nodes[0].id  # doctest: +SKIP
        'mProject_00000001'
    """
    if not math.isfinite(runtime_scale) or runtime_scale < 0:
        raise ValueError(f"runtime_scale is {runtime_scale}; it is a number of at least 0, such as 0.01")
    recording = read_recording(path)
    return check(_definition(recording, runtime_scale))


def node_ids(task_ids: Iterable[str]) -> dict[str, str]:
    """Task id -> node id, one to one. Ids that no node may have get a readable part and a hash of the whole.

    >>> node_ids(["align.1", "sort reads"])
    {'align.1': 'align.1', 'sort reads': 'task--sort-reads-e8c45da67174259b'}
    """
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for task_id in task_ids:
        node_id = _node_id(task_id)
        other = owners.setdefault(node_id, task_id)
        if other != task_id:
            raise DefinitionError(f"tasks {other[:80]!r} and {task_id[:80]!r} would both be node {node_id!r}; rename one")
        found[task_id] = node_id
    return found


def _node_id(task_id: str) -> str:
    if NAME_PATTERN.fullmatch(task_id) and not task_id.startswith(_MAPPED):
        return task_id
    readable = _ODD.sub("-", task_id).strip("-")[:_SLUG_LENGTH_MAX]
    return f"{_MAPPED}{readable}-{hashlib.sha256(task_id.encode()).hexdigest()[:16]}"


def _definition(recording: Recording, runtime_scale: float) -> models.WorkflowDefinition:
    ids = node_ids(task.id for task in recording.tasks)
    last = _free("finish", frozenset(ids.values()))
    nodes: list[models.Node] = [_node(task, ids[task.id], runtime_scale) for task in recording.tasks]
    nodes.append(_finish(last, len(recording.tasks)))
    return models.WorkflowDefinition(
        name=_workflow_name(recording.name),
        description=recording.description,
        nodes=tuple(nodes),
        transitions=(*_edges(recording, ids), *_last_edges(recording, ids, last)),
    )


def _node(task: RecordedTask, node_id: str, runtime_scale: float) -> models.ActionNode:
    given = {
        # One text for all nodes, which is compiled once.
        "task": "token.node" if node_id == task.id else _literal(task.id),
        "parents": _parents_of(node_id) if task.parents else "[]",
    }
    seconds = task.runtime_s * runtime_scale
    if seconds > 0:
        given["seconds"] = repr(seconds)
    return models.ActionNode(id=node_id, action=_reference(wfformat_actions.run_task), input=given)


def _finish(node_id: str, tasks: int) -> models.ActionNode:
    return models.ActionNode(
        id=node_id,
        action=_reference(wfformat_actions.finish),
        input={"leaves": "state.leaves", "tasks": str(tasks)},
        output={"output.digest": "result.digest", "output.tasks": "result.tasks"},
    )


def _edges(recording: Recording, ids: Mapping[str, str]) -> list[models.Transition]:
    found: list[models.Transition] = []
    for task in recording.tasks:
        target = ids[task.id]
        join = All(merge=Append(_parents_of(target))) if task.parents else None
        found.extend(models.Transition(source=ids[parent], target=target, join=join) for parent in task.parents)
    return found


def _last_edges(recording: Recording, ids: Mapping[str, str], last: str) -> list[models.Transition]:
    with_children = {parent for task in recording.tasks for parent in task.parents}
    join = All(merge=Append("state.leaves"))
    return [models.Transition(source=ids[t.id], target=last, join=join) for t in recording.tasks if t.id not in with_children]


def _parents_of(node_id: str) -> str:
    return Target("state", ("parents", node_id)).text


def _workflow_name(name: str) -> str:
    if NAME_PATTERN.fullmatch(name):
        return name
    return _ODD.sub("-", name).strip("-._")[:_SLUG_LENGTH_MAX] or "wfformat"


def _free(name: str, taken: frozenset[str]) -> str:
    n = 1
    found = name
    while found in taken:
        n += 1
        found = f"{name}-{n}"
    return found


def _literal(text: str) -> str:
    r"""A text as a literal in an expression.

    >>> print(_literal('a "b"\n'))
    "a \"b\"\u000a"
    """
    escaped = "".join(f"\\u{ord(c):04x}" if c < " " or c == "\x7f" else f"\\{c}" if c in '"\\' else c for c in text)
    return f'"{escaped}"'


def _reference(action: Callable[..., Any]) -> str:
    return f"{action.__module__}:{action.__qualname__}"
