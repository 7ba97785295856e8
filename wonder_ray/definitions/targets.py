"""Targets: where output mappings and merges write, as a path of keys below `state` or `output`.

>>> target = parse_target("state.pages['a-b'].title")
>>> target.root, target.path
('state', ('pages', 'a-b', 'title'))
>>> tree = {}
>>> set_in(tree, target.path, "Home")
>>> tree
{'pages': {'a-b': {'title': 'Home'}}}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from wonder_ray.errors import DefinitionError, ExpressionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.values import Json

DEPTH_MAX = 16
TEXT_LENGTH_MAX = 1024
_ROOT = re.compile(r"(state|output)(?![A-Za-z0-9_])")
_STEP = re.compile(
    r"""\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | \[\s*(?: '(?P<single>(?:[^'\\\x00\n]|\\['"\\])*)' | "(?P<double>(?:[^"\\\x00\n]|\\['"\\])*)" )\s*\]""",
    re.VERBOSE,
)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RESERVED = frozenset({"true", "false", "null", "in"})  # CEL selects these only in brackets
_SHOWN_MAX = 80


@dataclass(frozen=True, slots=True)
class Target:
    """A place to write to.

    Attributes:
        root: `state` or `output`.
        path: The keys below it, at least one, at most 16.
    """

    root: Literal["state", "output"]
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """The one spelling of this place: `parse_target(t.text) == t`, and as an expression it reads what was written.

        >>> parse_target('state["a"]["x y"]').text
        "state.a['x y']"
        """
        return self.root + _spelled(self.path)


def parse_target(text: str) -> Target:
    """Read a target as it stands in a definition.

    Raises:
        DefinitionError: The text is no path of keys below `state` or `output`.

    >>> parse_target("input.site")
    Traceback (most recent call last):
    wonder_ray.errors.DefinitionError: target 'input.site' must start with state or output, as in state.result
    """
    if not isinstance(text, str):
        raise DefinitionError(f"a target is a text such as state.result; this is {type(text).__name__} {_shown(text)}")
    if len(text) > TEXT_LENGTH_MAX:
        raise DefinitionError(
            f"target {_shown(text)} has {len(text)} characters; at most {TEXT_LENGTH_MAX} are allowed: use shorter keys"
        )
    stripped = text.strip(" ")
    root = _ROOT.match(stripped)
    if root is None:
        raise DefinitionError(f"target {_shown(text)} must start with state or output, as in state.result")
    path = _steps(text, stripped, root.end())
    if not path:
        raise DefinitionError(f"target {_shown(text)} names no key; write {root[1]}.<key> (one target per key)")
    if len(path) > DEPTH_MAX:
        raise DefinitionError(f"target {_shown(text)} is {len(path)} keys deep; at most {DEPTH_MAX} are allowed: flatten it")
    return Target(cast("Literal['state', 'output']", root[1]), path)


def set_in(tree: dict[str, Any], path: Sequence[str], value: Json) -> None:
    """Write `value` at `path`, in place; objects on the way are created. On an error nothing has changed.

    Raises:
        ExpressionError: Something that is no object stands on the way.

    >>> set_in({"a": [1]}, ("a", "b"), 2)
    Traceback (most recent call last):
    wonder_ray.errors.ExpressionError: cannot write .a.b: .a holds [1], which is no object; write .a as a whole
    """
    if not path:
        raise ExpressionError("cannot write an empty path; name at least one key")
    at = tree
    for depth, key in enumerate(path[:-1], 1):
        below = at.setdefault(key, {})
        if not isinstance(below, dict):
            here = _spelled(path[:depth])
            raise ExpressionError(
                f"cannot write {_spelled(path)}: {here} holds {_shown(below)}, which is no object; write {here} as a whole"
            )
        at = below
    at[path[-1]] = value


def get_in(tree: Any, path: Sequence[str], default: Any = None) -> Any:
    """The value at `path`, or `default` where there is none.

    >>> get_in({"a": {"b": 1}}, ("a", "b")), get_in({"a": [1]}, ("a", "b"), "none")
    (1, 'none')
    """
    for key in path:
        if not isinstance(tree, dict) or key not in tree:
            return default
        tree = tree[key]
    return tree


def _steps(text: str, stripped: str, at: int) -> tuple[str, ...]:
    path = []
    while at < len(stripped):
        step = _STEP.match(stripped, at)
        if step is None:
            hint = (
                "a target names keys, not positions of a list"
                if re.match(r"\[\s*-?\d", stripped[at:])
                else "write .key or ['key']"
            )
            raise DefinitionError(
                f"target {_shown(text)}: {_shown(stripped[at:])} is no key; {hint}, as in state.pages['a-b'].title"
            )
        quoted = step["single"] if step["single"] is not None else step["double"]
        path.append(step["name"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = step.end()
    return tuple(path)


def _spelled(path: Sequence[str]) -> str:
    return "".join(f".{key}" if _PLAIN.match(key) and key not in _RESERVED else f"['{_escaped(key)}']" for key in path)


def _escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace("'", "\\'")


def _shown(value: object) -> str:
    shown = repr(value[:_SHOWN_MAX] if isinstance(value, (str, list)) else value)
    return shown if len(shown) <= _SHOWN_MAX else shown[: _SHOWN_MAX - 3] + "..."
