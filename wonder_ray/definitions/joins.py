"""How branches meet, in the words of the builder.

>>> join = All("pages", merge=Append("state.pages"))
>>> join.strategy, join.over, join.merge[0].strategy
('all', 'pages', 'append')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, TypedDict, Unpack

from wonder_ray.definitions.making import make
from wonder_ray.definitions.models import Join, Merge

INCOMING: Final = "incoming"
"""Join over the incoming transitions of the target node, one arrival from each, instead of over a group."""

Merges: TypeAlias = Merge | Sequence[Merge]
Remaining: TypeAlias = Literal["absorb", "cancel", "pass"]


class Waiting(TypedDict, total=False):
    """How long a join waits, as keyword arguments.

    Fields:
        blocking: Whether it waits until earlier groups of its name are settled, so that their firings never overlap.
        timeout_s: Seconds that it waits, from the opening of its group; over `INCOMING`, from the first arrival.
        on_timeout: What happens then: the join fails (`fail`, the default), or goes on with what has arrived
            (`proceed_with_available`).
    """

    blocking: bool
    timeout_s: float
    on_timeout: Literal["fail", "proceed_with_available"]


def All(over: str = INCOMING, *, merge: Merges = (), **waiting: Unpack[Waiting]) -> Join:  # noqa: N802 - the builder's word, as Any and MOfN
    """Go on when every member of a group has arrived or ended otherwise.

    Args:
        over: The group, or `INCOMING`.
        merge: What the members contribute to the context that goes on, in branch order.
        **waiting: `blocking`, `timeout_s`, `on_timeout` (see `Waiting`).

    Example:
        >>> All("pages").strategy
        'all'
        >>> All("bids", timeout_s=60, on_timeout="proceed_with_available").timeout_s
        60.0
    """
    return _join(over, merge, {"strategy": "all", **waiting})


def Any(  # noqa: N802 - as All
    over: str = INCOMING, *, merge: Merges = (), remaining: Remaining = "absorb", **waiting: Unpack[Waiting]
) -> Join:
    """Go on with the first arrival.

    Args:
        over: The group, or `INCOMING`.
        merge: What the arrived member contributes.
        remaining: What becomes of the others: they end at the join (`absorb`), are cancelled, or `pass` it as well.
        **waiting: As for `All`.

    Example:
        >>> Any("mirrors", remaining="cancel").remaining
        'cancel'
    """
    return _join(over, merge, {"strategy": "any", "remaining": remaining, **waiting})


def MOfN(  # noqa: N802 - as All
    m: int | str, over: str = INCOMING, *, merge: Merges = (), remaining: Remaining = "absorb", **waiting: Unpack[Waiting]
) -> Join:
    """Go on with the m-th arrival.

    Args:
        m: How many arrivals it takes: a number of at least 1, or an expression, which is evaluated at each arrival and sees
            `group` (`size`, `arrived`, `active`, `failures`) and `results` (what the arrived members returned), too.
        over: The group, or `INCOMING`.
        merge: What the arrived members contribute.
        remaining: As for `Any`.
        **waiting: As for `All`.

    Example:
        >>> MOfN(2, "reviews").m
        2
        >>> MOfN("(group.size + 1) / 2", "votes", remaining="cancel").m
        '(group.size + 1) / 2'
    """
    return _join(over, merge, {"strategy": "m_of_n", "m": m, "remaining": remaining, **waiting})


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
    """An object with a key per branch: its index, say. What a branch brings besides (with several threads) has `0#2`, ...

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


def _join(over: str, merge: Merges, fields: Mapping[str, object]) -> Join:
    merges = (merge,) if isinstance(merge, Merge) else tuple(merge)
    return make(Join, f"join over {over!r}", {"over": over, "merge": merges, **fields})
