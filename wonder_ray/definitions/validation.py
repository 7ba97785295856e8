"""Whether a definition can run: every finding with its node, field and mend, before anything starts.

>>> from wonder_ray.definitions.models import ActionNode, Transition, WorkflowDefinition
>>> definition = WorkflowDefinition(
...     name="two",
...     nodes=(ActionNode(id="fetch", action="m:fetch"),),
...     transitions=(Transition(source="ftech", target="fetch"),),
...     start=("fetch",),
... )
>>> for problem in validate(definition):
...     print(problem.severity, problem)
error transition 'ftech->fetch', from: unknown node 'ftech'; did you mean 'fetch'?
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.definitions.checks.children import check_children
from wonder_ray.definitions.checks.claims import check_claims
from wonder_ray.definitions.checks.constants import check_constants
from wonder_ray.definitions.checks.dataflow import check_dataflow
from wonder_ray.definitions.checks.effects import check_effects
from wonder_ray.definitions.checks.groups import Contexts, check_groups
from wonder_ray.definitions.checks.loops import check_loops
from wonder_ray.definitions.checks.policies import check_policies
from wonder_ray.definitions.checks.problems import Problem
from wonder_ray.definitions.checks.schemas import check_schemas
from wonder_ray.definitions.checks.structure import check_limits, check_structure
from wonder_ray.definitions.checks.survey import Survey
from wonder_ray.definitions.checks.texts import check_texts
from wonder_ray.definitions.checks.waits import check_waits
from wonder_ray.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.definitions.models import WorkflowDefinition

__all__ = ["Problem", "check", "definition_error", "validate"]

_SHOWN_MAX = 50


def validate(definition: WorkflowDefinition) -> list[Problem]:
    """All errors and warnings, errors first. Takes near-linear time: a second or two for 10,000 nodes and 40,000 transitions."""
    survey = Survey(definition)
    if check_limits(survey):
        check_structure(survey)
        names = check_texts(survey)
        contexts = Contexts(survey)
        check_groups(survey, contexts)
        check_effects(survey)
        check_loops(survey)
        check_policies(survey)
        check_waits(survey)
        check_children(survey)
        check_claims(survey)
        check_schemas(survey)
        check_constants(survey, names)
        check_dataflow(survey, contexts, names)
    return sorted(survey.problems, key=lambda problem: problem.severity != "error")


def check(definition: WorkflowDefinition) -> WorkflowDefinition:
    """The definition itself when it has no errors (warnings are let through).

    Raises:
        DefinitionError: One error that lists all that is wrong (`validate` gives the same as records).

    >>> from wonder_ray.definitions.models import ActionNode, WorkflowDefinition
    >>> check(WorkflowDefinition(name="one", nodes=(ActionNode(id="a", action="m:a"),))).name
    'one'
    """
    errors = [problem for problem in validate(definition) if problem.severity == "error"]
    if errors:
        raise definition_error(definition.name, map(str, errors))
    return definition


def definition_error(name: str, errors: Iterable[str]) -> DefinitionError:
    """One error for a list of findings."""
    found = list(errors)
    if len(found) == 1:
        return DefinitionError(f"workflow {name[:80]!r} cannot be used: {found[0]}")
    lines = [f"  {line}" for line in found[:_SHOWN_MAX]]
    more = [f"  ... and {len(found) - _SHOWN_MAX:,} more"] if len(found) > _SHOWN_MAX else []
    return DefinitionError("\n".join([f"workflow {name[:80]!r} cannot be used, for {len(found):,} reasons:", *lines, *more]))
