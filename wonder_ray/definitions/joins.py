"""How branches meet, in the words of the builder.

>>> join = All("pages", merge=Append("state.pages"))
>>> join.strategy, join.over, join.merge[0].strategy
('all', 'pages', 'append')
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from wonder_ray.definitions.models import Join, Merge

INCOMING: Final = "incoming"
"""Join over the incoming transitions of the target node, one arrival from each, instead of over a group."""

Merges: TypeAlias = Merge | Sequence[Merge]
Remaining: TypeAlias = Literal["absorb", "cancel", "pass"]


def All(over: str = INCOMING, *, merge: Merges = ()) -> Join:  # noqa: N802 - the builder's word, as Any and MOfN
    """Go on when every member of a group has arrived or ended otherwise.

    Args:
        over: The group, or `INCOMING`.
        merge: What the members contribute to the context that goes on, in branch order.

    Example:
        >>> All("pages").strategy
        'all'
    """
    return Join(over=over, strategy="all", merge=_merges(merge))


def Any(over: str = INCOMING, *, merge: Merges = (), remaining: Remaining = "absorb") -> Join:  # noqa: N802 - as All
    """Go on with the first arrival.

    Args:
        over: The group, or `INCOMING`.
        merge: What the arrived member contributes.
        remaining: What becomes of the others: they end at the join (`absorb`), are cancelled, or `pass` it as well.

    Example:
        >>> Any("mirrors", remaining="cancel").remaining
        'cancel'
    """
    return Join(over=over, strategy="any", remaining=remaining, merge=_merges(merge))


def MOfN(m: int | str, over: str = INCOMING, *, merge: Merges = (), remaining: Remaining = "absorb") -> Join:  # noqa: N802 - as All
    """Go on with the m-th arrival.

    Args:
        m: How many arrivals it takes: a number of at least 1, or an expression.
        over: The group, or `INCOMING`.
        merge: What the arrived members contribute.
        remaining: As for `Any`.

    Example:
        >>> MOfN(2, "reviews").m
        2
    """
    return Join(over=over, strategy="m_of_n", m=m, remaining=remaining, merge=_merges(merge))


def Append(target: str, source: str = "result") -> Merge:  # noqa: N802 - as All
    """A list with one element per branch.

    >>> Append("state.pages", "result.text").strategy
    'append'
    """
    return Merge(target=target, source=source, strategy="append")


def Concat(target: str, source: str = "result") -> Merge:  # noqa: N802 - as All
    """The lists of all branches, one after the other.

    >>> Concat("state.links", "result.links").strategy
    'concat'
    """
    return Merge(target=target, source=source, strategy="concat")


def MergeObject(target: str, source: str = "result") -> Merge:  # noqa: N802 - as All
    """The objects of all branches in one; of equal keys the last in branch order wins.

    >>> MergeObject("state.facts").strategy
    'merge_object'
    """
    return Merge(target=target, source=source, strategy="merge_object")


def KeyedByBranch(target: str, source: str = "result") -> Merge:  # noqa: N802 - as All
    """An object with a key per branch.

    >>> KeyedByBranch("state.votes").strategy
    'keyed_by_branch'
    """
    return Merge(target=target, source=source, strategy="keyed_by_branch")


def LastWins(target: str, source: str = "result") -> Merge:  # noqa: N802 - as All
    """The value of the last branch (in branch order, not in time).

    >>> LastWins("state.choice").strategy
    'last_wins'
    """
    return Merge(target=target, source=source, strategy="last_wins")


def _merges(merge: Merges) -> tuple[Merge, ...]:
    return (merge,) if isinstance(merge, Merge) else tuple(merge)
