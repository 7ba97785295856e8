"""What a run waits for, told to people: each with the command to type next. Pure functions.

>>> from wonder_ray.planning.queries import Waiting
>>> for text in wait_lines("run_x", Waiting(kind="gate", node_id="approve", assignee="ann", schema={"type": "boolean"})):
...     print(text)
gate 'approve' asks ann
  wonder answer run_x approve true
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wonder_ray.cli.output import duration, json_text, safe, short, when

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.planning.queries import Waiting

ACTIONABLE: Final = frozenset({"gate", "signal", "group", "guard", "pause"})
"""What only comes when somebody does something."""
SHOWN_CHARS: Final = 300
SCHEMA_CHARS: Final = 160


def wait_lines(
    run_id: str, wait: Waiting, *, hint: str = "", now_us: int | None = None, alone: bool = True, status: str | None = None
) -> list[str]:
    """A line that says what is waited for, and what can be typed.

    Args:
        run_id: Whose wait it is.
        wait: The wait.
        hint: What a command needs to find the storage.
        now_us: The time; with it, times are also told as spans.
        alone: Whether no other gate is open at the node; else the token names it.
        status: Of a child run.
    """
    said, commands = _told(run_id, wait, alone=alone, status=status)
    return [f"{said}{_until(wait, now_us)}", *(f"  wonder {command}{hint}" for command in commands)]


class Need(NamedTuple):
    """Something that a run, or one below it, waits for."""

    run_id: str
    wait: Waiting
    status: str | None = None
    """Of a child run."""


def need_lines(need: Need, needs: Sequence[Need], *, hint: str = "", now_us: int | None = None) -> list[str]:
    """The lines of a need among all that are known: gates at one node are named by their tokens."""
    same = [
        each for each in needs if (each.run_id, each.wait.node_id, each.wait.kind) == (need.run_id, need.wait.node_id, "gate")
    ]
    return wait_lines(need.run_id, need.wait, hint=hint, now_us=now_us, alone=len(same) < 2, status=need.status)  # noqa: PLR2004 - itself


def _told(run_id: str, wait: Waiting, *, alone: bool, status: str | None) -> tuple[str, list[str]]:
    node = f"'{safe(wait.node_id)}'"
    match wait.kind:
        case "gate":
            gate = wait.node_id if alone else str(wait.token_id)
            return _gate(wait), [f"answer {run_id} {gate} {_example(wait.schema)}"]
        case "signal":
            name = wait.name or wait.node_id
            return f"node {node} waits for the signal {safe(name)!r}", [f"signal {run_id} {shlex.quote(name)}{_payload(wait)}"]
        case "group":
            group = shlex.quote(str(wait.name))
            commands = [f"add-members {run_id} {group} JSON...", f"close-group {run_id} {group}"]
            return f"group {safe(str(wait.name))!r} takes members until it is closed", commands
        case "guard":
            return f"node {node} waits until its guard holds", [f"update {run_id} state.NAME=JSON"]
        case "lock":
            return f"node {node} waits for a lock that another holds", []
        case "timer":
            return f"timer {node} goes off at {when(wait.deadline_us)}", []
        case "child":
            return f"node {node} waits for its child run {wait.name}{'' if status is None else f' ({status})'}", []
        case _:
            reason = f": {safe(wait.name)}" if wait.name else ""
            return f"run {run_id} is paused{reason}", [f"resume {run_id}"]


def _gate(wait: Waiting) -> str:
    who = "somebody" if wait.assignee is None else wait.assignee if isinstance(wait.assignee, str) else json_text(wait.assignee)
    again = f" (asked {wait.asked} times)" if wait.asked > 1 else ""
    shown = "" if wait.shown is None else f": {short(wait.shown, SHOWN_CHARS)}"
    wanted = "" if _is_plain(wait.schema) else f"; the answer must be {short(wait.schema, SCHEMA_CHARS)}"
    return f"gate '{safe(wait.node_id)}' asks {safe(who)}{again}{shown}{wanted}"


def _is_plain(schema: Mapping[str, Any] | None) -> bool:
    """Whether an example says it all."""
    return schema is None or schema == {"type": "boolean"}


def _example(schema: Mapping[str, Any] | None) -> str:
    if schema is None:
        return "JSON"
    if schema.get("enum"):
        return shlex.quote(json_text(schema["enum"][0]))
    return "true" if schema.get("type") == "boolean" else "JSON"


def _payload(wait: Waiting) -> str:
    return "" if wait.schema is None else f" --payload {_example(wait.schema)}"


def _until(wait: Waiting, now_us: int | None) -> str:
    if wait.deadline_us is None:
        return ""
    left = "" if now_us is None or wait.deadline_us <= now_us else f"in {duration((wait.deadline_us - now_us) / 1000)}"
    if wait.kind == "timer":
        return f" ({left})" if left else ""
    return f"; times out {left or f'at {when(wait.deadline_us)}'}"
