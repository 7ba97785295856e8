"""How the members of a join contribute to the context that goes on (rules R7 and R8), and whether a write can be made."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from wonder_ray.decisions import Write
from wonder_ray.definitions.targets import set_in
from wonder_ray.errors import ExpressionError
from wonder_ray.fold import target_of
from wonder_ray.planning.scope import expression_scope
from wonder_ray.values import own

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wonder_ray.definitions.expressions import Expression
    from wonder_ray.definitions.graph import MergeSpec
    from wonder_ray.definitions.targets import Target
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Token


def merge_writes(
    state: RunState,
    arrivals: Sequence[Token],
    merges: Iterable[MergeSpec],
    prefix: str,
    names: Mapping[str, str] | None = None,
) -> tuple[Write, ...]:
    """The assignments that a join's merges make, of its arrivals in branch order.

    `prefix` is the path of the token that opened the group; what follows it names a branch in `keyed_by_branch`.
    `names` says what names it where the branches are transitions.
    Raises `ExpressionError` when a source cannot be evaluated or does not fit its strategy.
    """
    writes = []
    for merge in merges:
        values = [(_branch_key(token, prefix, names), _source_value(state, token, merge.source)) for token in arrivals]
        writes.append(Write(target=merge.target.text, value=_merged(merge, values)))
    return tuple(writes)


def _branch_key(token: Token, prefix: str, names: Mapping[str, str] | None) -> str:
    if names is not None:
        return names[token.transition_id or ""]
    own = token.path_id[len(prefix) + 1 :] if token.path_id.startswith(f"{prefix}.") else token.path_id
    return own.split(".", 1)[1] if "." in own else own


def _source_value(state: RunState, arrival: Token, source: Expression) -> Any:
    before = state.tokens[arrival.parent_id] if arrival.parent_id is not None else arrival
    return source.evaluate(expression_scope(state, arrival, before.result))


def _merged(merge: MergeSpec, values: list[tuple[str, Any]]) -> Any:
    match merge.strategy:
        case "append":
            return [value for _, value in values]
        case "concat":
            return [item for _, value in values for item in _of_type(merge, value, list, "a list")]
        case "merge_object":
            merged: dict[str, Any] = {}
            for _, value in values:
                merged.update(_of_type(merge, value, dict, "an object"))
            return merged
        case "keyed_by_branch":
            return _keyed(values)
        case _:
            return values[-1][1] if values else None


def _keyed(values: list[tuple[str, Any]]) -> dict[str, Any]:
    """One key per value: where several threads of a branch have come, the second is `0#2`."""
    found: dict[str, Any] = {}
    brought: Counter[str] = Counter()
    for key, value in values:
        brought[key] += 1
        found[key if brought[key] == 1 else f"{key}#{brought[key]}"] = value
    return found


def _of_type(merge: MergeSpec, value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        msg = f"merge {merge.strategy} into {merge.target.text}: {merge.source.text!r} gave {value!r:.200}, which is not {name}"
        raise ExpressionError(msg)
    return value


def output_writes(
    state: RunState,
    token: Token,
    mapping: Iterable[tuple[Target, Expression]],
) -> tuple[Write, ...]:
    """The assignments of a node's output mapping; every expression sees the context as it was before the first."""
    scope = expression_scope(state, token, token.result)
    writes = tuple(Write(target=target.text, value=expression.evaluate(scope)) for target, expression in mapping)
    check_writes(state, token.scope_id, writes)
    return writes


def check_writes(state: RunState, scope_id: str, writes: Sequence[Write]) -> None:
    """Raise an `ExpressionError` if one of the assignments would set a key of something that is no object."""
    places = [(target_of(write.target), write) for write in writes]
    if all(len(target.path) == 1 for target, _ in places):
        return
    view = state.view(scope_id)
    often = Counter((target.root, target.path[0]) for target, _ in places)
    tried: dict[tuple[str, str], dict[str, Any]] = {}
    for target, write in places:
        tree, key = view[target.root], (target.root, target.path[0])
        if often[key] == 1:
            _check_write(tree, target)
            continue
        if key not in tried:  # later assignments meet what earlier ones have made of the value: try them on a copy
            tried[key] = own({key[1]: tree[key[1]]}) if key[1] in tree else {}
        set_in(tried[key], target.path, write.value)


def _check_write(tree: Any, target: Target) -> None:
    here = tree
    for depth, key in enumerate(target.path[:-1], 1):
        if key not in here:
            return
        here = here[key]
        if not isinstance(here, dict):
            place = ".".join((target.root, *target.path[:depth]))
            msg = f"cannot set {target.text}: {place} is {here!r:.100}, not an object"
            raise ExpressionError(msg)
