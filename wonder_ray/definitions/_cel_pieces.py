"""Long lists in pieces: `map` and `filter` of two lists together are the `map`s and `filter`s of both, one after the other.

The library copies what it has built with each step, so that a thousand elements ten times cost a tenth of ten thousand at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions import _cel_ast as ast
from wonder_ray.definitions._cel_paths import static_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PIECE: Final = 500


class Pieces:
    """An expression that is nothing but `map`s and `filter`s over a path: `state.rows.filter(r, r.ok).map(r, r.name)`.

    Attributes:
        count: How many of them there are; each walks the list, or what is left of it.
    """

    __slots__ = ("_keys", "_root", "count")

    def __init__(self, root: str, keys: list[str], count: int) -> None:
        self._root, self._keys, self.count = root, keys, count

    @classmethod
    def of(cls, tree: ast.Node) -> Pieces | None:
        """The expression as one; None when it is another, or looks at the list in its bodies, too.

        >>> Pieces.of(ast.Ident("item")) is None
        True
        """
        node, bodies = tree, list[ast.Node]()
        while isinstance(node, ast.Comprehension) and _builds(node):
            bodies += [node.condition, node.step]
            node = node.range
        path = static_path(node)
        if not bodies or path is None:
            return None
        root, keys = path
        for body in bodies:
            for part in ast.walk(body):
                if isinstance(part, ast.Comprehension) or (isinstance(part, ast.Ident) and part.name.removeprefix(".") == root):
                    return None
        return cls(root, keys, len(bodies) // 2)

    def split(self, data: Mapping[str, Any], steps_max: int) -> list[dict[str, Any]] | None:
        """The variables, once for each piece of the list; None where it is no list, or makes more steps than there may be."""
        found: Any = data.get(self._root)
        for key in self._keys:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, list) or len(found) * self.count > steps_max:
            return None
        return [{**data, self._root: piece} for piece in self._pieces(found)]

    def _pieces(self, rows: list[Any]) -> Iterator[Any]:
        for at in range(0, len(rows), PIECE):
            piece: Any = rows[at : at + PIECE]
            for key in reversed(self._keys):
                piece = {key: piece}
            yield piece


def _builds(node: ast.Comprehension) -> bool:
    """Whether it is a `map` or a `filter`."""
    return isinstance(node.start, ast.ListOf) and not node.start.items and node.result == ast.Ident(node.variables[-1])
