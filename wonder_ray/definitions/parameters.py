"""Whether a node's `input` fits the parameters of its function: told when the workflow is written, not when it runs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from wonder_ray.definitions.checks.problems import did_you_mean
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wonder_ray.executor.registry import Action

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_parameters(where: str, action: Action[..., Any], given: Mapping[str, object]) -> None:
    """Raise a `DefinitionError` when a parameter without default gets no value, or a value no parameter.

    Args:
        where: The node or step, for the message.
        action: Whose signature is looked at; functions without one (some built-in ones) pass.
        given: Parameter -> expression.
    """
    try:
        parameters = action.signature.parameters.values()
    except (TypeError, ValueError):
        return
    name = str(action.ref).replace(":", ".")
    for parameter in parameters:
        missing = parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and missing:
            msg = (
                f"{where}: parameter {parameter.name!r} of {name} takes no keyword, and actions get keywords only; remove the '/'"
            )
            raise DefinitionError(msg)
        if parameter.kind in _NAMED and missing and parameter.name not in given:
            msg = f'{where}: parameter {parameter.name!r} of {name} gets no value; add input={{"{parameter.name}": ...}}'
            raise DefinitionError(msg)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    takes = [parameter.name for parameter in parameters if parameter.kind in _NAMED]
    for unknown in given:
        if unknown not in takes:
            hint = did_you_mean(unknown, takes) if takes else "it takes none: remove input"
            msg = f"{where}: {name} has no parameter {unknown!r}; {hint}"
            raise DefinitionError(msg)
