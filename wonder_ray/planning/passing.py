"""What comes after a join has fired and may pass it: one more thread of the enclosing branch (rule R2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.decisions import CreateToken, Decision, MergeBranches
from wonder_ray.ids import derive_id
from wonder_ray.planning.merging import check_writes, merge_writes

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import JoinSpec
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Group, Token


def pass_join(state: RunState, group: Group, join: JoinSpec, arrival: Token) -> list[Decision]:
    """A member passes the join of its group; it keeps its path, so that the order of threads is that of their branches.

    Raises `ExpressionError` when what it merges cannot be merged.
    """
    opener = state.tokens[group.opener_id]
    decisions: list[Decision] = []
    if join.merges:
        writes = merge_writes(state, (arrival,), join.merges, opener.path_id)
        check_writes(state, opener.scope_id, writes)
        decisions.append(
            MergeBranches(join_id=group.id, node_id=join.node, scope_id=opener.scope_id, writes=writes, branches=1),
        )
    decisions.append(
        CreateToken(
            token_id=derive_id("t", arrival.id, "passed"),
            node_id=join.node,
            path_id=arrival.path_id,
            parent_id=opener.id,
            scope_id=opener.scope_id,
            group_id=opener.group_id,
            fanout_id=opener.fanout_id,
            index=opener.index,
            member=opener.group_id is not None,
        )
    )
    return decisions
