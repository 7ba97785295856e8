"""Changes of a run's context from outside, by updates and forks: whether they can be made, before anything is recorded.

>>> from wonder_ray.fold import new_state
>>> problem_with(new_state("run_x"), None, {"output.n": 1}, roots=("state",))
'output.n is no part of the state; write below state'
>>> problem_with(new_state("run_x"), {"required": ["n"]}, {"state.n": 1}, roots=("state",))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.decisions import Write
from wonder_ray.definitions.targets import parse_target, set_in
from wonder_ray.errors import DefinitionError, ExpressionError, PayloadError
from wonder_ray.planning.merging import check_writes
from wonder_ray.planning.schemas import problems_of
from wonder_ray.state import ROOT_SCOPE
from wonder_ray.values import check_json, own

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.run_state import RunState


def problem_with(
    state: RunState, schema: Mapping[str, Any] | None, changes: Mapping[str, Any], *, roots: Sequence[str]
) -> str | None:
    """What is wrong with setting these targets to these values in a run's own scope; None when nothing is.

    Args:
        state: The run as it is.
        schema: What its state must keep to.
        changes: Target -> value.
        roots: What targets may begin with.
    """
    try:
        targets = [(parse_target(text), value) for text, value in changes.items()]
        for target, value in targets:
            if target.root not in roots:
                return f"{target.text} is no part of the {' and the '.join(roots)}; write below {' or '.join(roots)}"
            check_json(value)
        check_writes(state, ROOT_SCOPE, [Write(target.text, value) for target, value in targets])
        after = own(state.view(ROOT_SCOPE)["state"])
        for target, value in targets:
            if target.root == "state":
                set_in(after, target.path, value)
    except (DefinitionError, ExpressionError, PayloadError) as error:
        return str(error)
    problems = problems_of(schema, after)
    return f"the state would break the workflow's schema: {'; '.join(problems)}" if problems else None
