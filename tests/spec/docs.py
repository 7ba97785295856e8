"""What docstrings and source say of decisions, events, trace events and log lines: read, not believed."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests._architecture import load
from wonder_ray import workflow_events
from wonder_ray.decisions import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests._architecture import Module

TOP = Path(__file__).parents[2]
_ARROW = re.compile(r"-> (`[^`]+`(?:, `[^`]+`)*)")


def decision_classes() -> list[type[Decision]]:
    """Every decision."""
    return Decision.__subclasses__()


def tag_of(kind: type[Decision]) -> str:
    """A decision's name: `CREATE_TOKEN`."""
    return str(kind.__struct_config__.tag)


@cache
def events_of_docstring() -> Mapping[type[Decision], frozenset[str]]:
    """Decision -> the events that its docstring says it produces: "... -> `event`, `event`."."""
    found = {}
    for kind in decision_classes():
        (listed,) = _ARROW.findall(kind.__doc__ or "")
        found[kind] = frozenset(re.findall(r"`([^`]+)`", listed))
    return MappingProxyType(found)


@cache
def package() -> tuple[Module, ...]:
    """The source of the package."""
    return tuple(load(TOP, "wonder_ray"))


def module(below: str) -> Module:
    """One source file: `coordinator/apply.py`."""
    (found,) = [m for m in package() if m.below == below]
    return found


def event_classes_used(tree: ast.AST) -> set[str]:
    """The event types whose classes are called in a piece of source as `ev.SomeEvent(...)`, or bound to a name to be called."""
    kinds = {cls.__name__: name for name, cls in workflow_events.EVENT_TYPES.items()}
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) in {"ev", "workflow_events"}}
    return {kinds[name] for name in names if name in kinds}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call in a piece of source."""
    return (found for found in ast.walk(tree) if isinstance(found, ast.Call))
