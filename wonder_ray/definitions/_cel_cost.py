"""What the evaluation of an expression may cost in a scope, told before it is evaluated.

The library counts the steps of comprehensions, and nothing else: `item.map(x, item)` makes few steps and n * n values, `s + s` in
a step copies `s` each time, `map` and `filter` copy what they have built with each step, and `matches` may take microseconds for
each letter. So the tree is walked once with amounts in place of values.

One unit is about a nanosecond of one core, and about a byte of memory for a moment, whichever is more.
"""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions import _cel_ast as ast
from wonder_ray.definitions._cel_amounts import (
    CHARACTER,
    CONTAINER,
    ELEMENT,
    ONE,
    PAIR,
    STEPS_MAX,
    ZERO,
    Amount,
    Measure,
    Parts,
    added,
    fixed,
    joined,
    weighed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NODE: Final = 60
"""To evaluate one place of the tree once."""
CALLED: Final = 500
"""To convert a text to a time, and the like."""
_SCANNED: Final = 0.15
_MATCHED: Final = 20 / CHARACTER
"""Of a letter, for each letter of the pattern, its repetitions written out."""
_JOINED: Final = 1.5
_COMPILED: Final = 200
_REPEATED_MAX: Final = 1000
"""What RE2 takes for a count of repetitions, nested ones multiplied."""
_REPETITION: Final = re.compile(r"([0-9]{1,4})(?:,([0-9]{0,4}))?")
_PASSED: Final = 2
_EQUALITIES: Final = frozenset(["_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"])
_SEARCHES: Final = frozenset(["contains", "startsWith", "endsWith"])
_CONVERSIONS: Final = frozenset(["string", "bytes"])


class Meter:
    """Tells what one expression costs; of what is surely cheap at a glance.

    >>> Meter(ast.Call("_+_", (ast.Ident("item"), ast.Const("int", 1)))).cost({"item": 2}) < 10_000
    True
    """

    def __init__(self, tree: ast.Node) -> None:
        nodes = list(ast.walk(tree))
        texts = sum(len(node.value) for node in nodes if isinstance(node, ast.Const) and isinstance(node.value, str))
        self._tree = tree
        self._nodes, self._depth = len(nodes), _depth(tree)
        self._growth, self._texts = ast.growth(tree), weighed(b"", texts)
        building = any(isinstance(node, ast.Comprehension) and isinstance(node.start, ast.ListOf) for node in nodes)
        self._matching = any(isinstance(node, ast.Call) and node.function == "matches" for node in nodes)
        self._plain = not building and not self._matching

    @property
    def needed(self) -> bool:
        """Whether it may cost more than a pass over its variables."""
        return self._depth > 0 or self._matching

    def glance(self, text: bytes) -> float:
        """A cruder upper bound than `cost`, and a quicker one, of variables that are written as this JSON text."""
        if not self._plain:
            return inf
        longest = text.count(b",") + text.count(b"[") + self._nodes
        steps = min(pow(float(longest), self._depth), STEPS_MAX)
        value = self._growth * (weighed(text) + self._texts)
        return self._nodes * steps * (NODE + CALLED + 2 * _PASSED * value)

    def cost(self, data: Mapping[str, Any]) -> float:
        """An upper bound for what evaluating it with these variables costs, with its value; converting them comes on top."""
        walk = _Walk({name: Parts(1, [value], exact=True) for name, value in data.items()})
        found = walk.amount(self._tree, walk.roots, 1)
        return walk.spent + found.total.weight


def _depth(node: ast.Node) -> int:
    """How deep comprehensions are nested."""
    return isinstance(node, ast.Comprehension) + max(map(_depth, ast.children(node)), default=0)


class _Walk:
    def __init__(self, roots: Mapping[str, Amount]) -> None:
        self.roots = roots
        self.spent = 0.0

    def amount(self, node: ast.Node, names: Mapping[str, Amount], times: float) -> Amount:
        """What a place takes that is evaluated so many times; adds what that costs."""
        self.spent += NODE * times
        match node:
            case ast.Const(_, str(text)):
                return Parts(times, [text], exact=times == 1)
            case ast.Ident(name):
                known = self.roots.get(name[1:]) if name.startswith(".") else names.get(name)
                if known is not None:
                    return known if known.times == times else known.repeated(times)
            case ast.Select(operand, field, test_only):
                found = self.amount(operand, names, times)
                return fixed(times, ONE) if test_only else found.below(field)
            case ast.Call(function, args):
                return self._call(function, args, names, times)
            case ast.ListOf(items):
                return self._built(items, len(items), 0, names, times)
            case ast.MapOf(_, entries):
                return self._built([part for entry in entries for part in entry], len(entries), PAIR, names, times)
            case ast.Comprehension():
                return self._comprehension(node, names, times)
        return fixed(times, ONE)

    def _built(self, items: Iterable[ast.Node], length: int, each: float, names: Mapping[str, Amount], times: float) -> Amount:
        found = [self.amount(item, names, times) for item in items]
        own = Measure(CONTAINER + each * length, ELEMENT * length, length)
        self.spent += (own.copy + each * length) * times

        def of(measure: Measure, parts: Iterable[Measure]) -> Measure:
            return measure._replace(weight=measure.weight + added(parts).weight)

        return Amount(
            times, lambda: of(own.times(times), (one.total for one in found)), lambda: of(own, (one.most for one in found))
        )

    def _call(self, function: str, nodes: tuple[ast.Node, ...], names: Mapping[str, Amount], times: float) -> Amount:
        args = [self.amount(node, names, times) for node in nodes]
        if function == "_[_]":
            key = nodes[1]
            return args[0].below(key.value) if isinstance(key, ast.Const) else args[0].any_member()
        if function == "_?_:_":
            return joined(args[1:], times)
        if function == "_+_" or function in _CONVERSIONS:
            self.spent += _JOINED * sum(arg.total.copy for arg in args)
            return joined(args, times)
        self.spent += self._looked_at(function, args, times)
        return fixed(times, ONE) if function in ast.SCALAR_CALLS else joined(args, times)

    def _looked_at(self, function: str, args: list[Amount], times: float) -> float:
        if function in _EQUALITIES:
            return 2 * _SCANNED * min(arg.total.weight for arg in args)
        if function == "@in":
            return 0 if args[1].holds_only(dict) else _SCANNED * args[1].total.weight
        if function == "matches":
            size = _pattern_size(args[1])
            return size * (_MATCHED * args[0].total.copy + _COMPILED * times)
        if function in _SEARCHES or (function == "size" and not args[0].holds_only(list, dict)):
            return _SCANNED * args[0].total.copy
        return 0 if function in ast.SCALAR_CALLS or function.startswith("_") else CALLED * times

    def _comprehension(self, node: ast.Comprehension, names: Mapping[str, Amount], times: float) -> Amount:
        over = self.amount(node.range, names, times)
        if not isinstance(node.range, ast.ListOf | ast.Comprehension) and not (ast.is_path(node.range) and over.holds_only(list)):
            self.spent += _PASSED * over.total.weight  # through Python, which sorts the keys of maps
        steps = min(over.total.length, STEPS_MAX)
        inside = {name: known.repeated(steps) for name, known in names.items()}
        inside |= dict.fromkeys(node.variables[:-1], over.walked(steps))
        start = self.amount(node.start, names, times)
        inside[node.variables[-1]] = fixed(steps, ZERO)
        self.amount(node.condition, inside, steps)
        new = self.amount(node.step, inside, steps)
        if not isinstance(node.start, ast.ListOf):
            return self.amount(node.result, {**names, node.variables[-1]: start}, times)
        longest = min(over.most.length, STEPS_MAX)
        self.spent += ELEMENT * steps * longest

        def total() -> Measure:
            return Measure(CONTAINER * times + new.total.weight, ELEMENT * steps, steps)

        def most() -> Measure:
            weight = new.total.weight if times == 1 else min(new.total.weight, longest * new.most.weight)
            return Measure(CONTAINER + weight, ELEMENT * longest, longest)

        def member() -> Measure:
            return new.most.opened()

        return Amount(times, total, most, member)


def _pattern_size(pattern: Amount) -> float:
    """How long it is with its repetitions written out: of what is not known, as long as it can be."""
    texts = pattern.texts()
    if texts is None:
        return _REPEATED_MAX * pattern.most.weight
    return max(map(written_out, texts), default=1)


def written_out(pattern: str) -> int:
    """The length of a regular expression with its counted repetitions written out; more where it is written oddly.

    >>> written_out("a{3}b"), written_out("(ab{2,10}){5}"), written_out("[a-z]+")
    (4, 60, 6)
    """
    open_groups: list[int] = []
    size, last = 0, 0  # of what stands in this group, and of what a repetition would repeat
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            size, last, at = size + 1, 1, at + 2
            continue
        if letter == "(":
            open_groups.append(size)
            size = last = 0
        elif letter == ")":
            last, size = size + 1, size + 1 + (open_groups.pop() if open_groups else 0)
        elif letter == "{" and (end := pattern.find("}", at)) > 0 and (count := _count(pattern[at + 1 : end])):
            size, last, at = size + last * (count - 1), last * count, end
        else:
            size, last = size + 1, 1 if letter not in "*+?" else last
        at += 1
    return max(size + sum(open_groups), 1)


def _count(text: str) -> int:
    """The most repetitions that `{n,m}` asks for; 0 for what is none."""
    found = _REPETITION.fullmatch(text)
    return max(int(found[2] or found[1]), 1) if found else 0
