"""wonder-ray: durable workflows for Ray.

The public names are imported from their modules when they are first used, so that `import wonder_ray` costs a worker
nothing it does not need.

>>> import wonder_ray as wonder
>>> flow = wonder.Workflow("doubling", output={"n": "state.n"})
>>> _ = flow.node("double", wonder.action(name="double")(lambda n: 2 * n), input={"n": "input.n"}, output={"state.n": "result"})
>>> flow.definition().name
'doubling'
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wonder_ray.client import Client, Run, connect
    from wonder_ray.definitions.builder import Escalate, Workflow, step, undo
    from wonder_ray.definitions.files import dump_definition, load_definition
    from wonder_ray.definitions.joins import (
        INCOMING,
        All,
        Any,
        Append,
        Concat,
        KeyedByBranch,
        LastWins,
        MergeObject,
        MOfN,
    )
    from wonder_ray.definitions.models import Retry, WorkflowDefinition
    from wonder_ray.errors import ActionError, CommandRefusedError, DefinitionError, RunFailedError, WonderError
    from wonder_ray.executor.context import current, report_usage
    from wonder_ray.executor.registry import action
    from wonder_ray.executor.secrets import Secret
    from wonder_ray.reading import open_storage

__version__ = "0.1.0"

__all__ = [
    "INCOMING",
    "ActionError",
    "All",
    "Any",
    "Append",
    "Client",
    "CommandRefusedError",
    "Concat",
    "DefinitionError",
    "Escalate",
    "KeyedByBranch",
    "LastWins",
    "MOfN",
    "MergeObject",
    "Retry",
    "Run",
    "RunFailedError",
    "Secret",
    "WonderError",
    "Workflow",
    "WorkflowDefinition",
    "__version__",
    "action",
    "connect",
    "current",
    "dump_definition",
    "load_definition",
    "open_storage",
    "report_usage",
    "step",
    "undo",
]

_MODULES: Final = MappingProxyType(
    {
        "client": ("Client", "Run", "connect"),
        "definitions.builder": ("Escalate", "Workflow", "step", "undo"),
        "definitions.files": ("dump_definition", "load_definition"),
        "definitions.joins": (
            "INCOMING",
            "All",
            "Any",
            "Append",
            "Concat",
            "KeyedByBranch",
            "LastWins",
            "MOfN",
            "MergeObject",
        ),
        "definitions.models": ("Retry", "WorkflowDefinition"),
        "errors": ("ActionError", "CommandRefusedError", "DefinitionError", "RunFailedError", "WonderError"),
        "executor.context": ("current", "report_usage"),
        "executor.registry": ("action",),
        "executor.secrets": ("Secret",),
        "reading": ("open_storage",),
    }
)


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            value: object = getattr(import_module(f"wonder_ray.{module}"), name)
            globals()[name] = value
            return value
    msg = f"module 'wonder_ray' has no attribute {name!r}; public names are {', '.join(__all__)}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
