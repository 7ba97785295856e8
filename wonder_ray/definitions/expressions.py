r"""Expressions: the one language of conditions, mappings, foreach collections, thresholds and run outputs. It is CEL.

>>> compile_expression("state.tries < 3 && input.site != ''").evaluate_bool({"state": {"tries": 1}, "input": {"site": "x"}})
True

A plain path (`state.urls`, `item['x-y'][0]`), a literal, and lists and maps of these are evaluated in Python and give the very
object in the scope (not walked, not copied, key order kept; 0.5 us). All else goes to the library, with only the parts of each
variable that the expression names: `state.n > 1` takes 7 us, also beside a list of 100,000. What the library is passed costs
about 0.2 us per element, so `size(state.urls)` of 100,000 takes 17 ms. Maps come back from it with sorted keys.

**Which library** (x86-64, CPython 3.11; evaluations are of `state.a > 1 && input.name == 'x'`, compiled once):

===================== ============================ ============================= =======================
measured              cel-expr-python 0.1.3        common-expression-language    cel-python 0.5.0
                                                   0.10.0
===================== ============================ ============================= =======================
runtime               Google's C++                 Rust                          Python
evaluations           260,000 /s                   119,000 /s                    3,800 /s
`all` over 3,000      0.5 ms                       1.6 ms                        281 ms
`map` over 3,000      213 ms                       268 ms                        376 ms
three nested `all`    stopped at 10,000 steps      no limit met: 470 ms          not run; two: 1,700 ms
over 100 each         after 3 ms
200 parentheses       refused (nesting over 32)    refused                       RecursionError
import, warm (first)  3 ms (21 ms)                 185 ms (536 ms)               69 ms (241 ms)
size of the wheel     16 MB                        1.8 MB                        0.1 MB and dependencies
wheels                CPython 3.11-3.14 on Linux   the same Pythons and 3.15,    pure Python; its regex
                      x86-64 and arm64, macOS,     PyPy, more Linux CPUs         library has wheels
                      Windows
===================== ============================ ============================= =======================

The first is chosen: it bounds what an expression may cost, and is the fastest. This module closes the traps it has: strings are
cut at a NUL (an error here), maps are walked in an order that changes with the process (sorted keys here), nulls wear down the
references to `None` until the interpreter ends (`_cel_counts`), and chains like `.map(s, s + s)` double a value without limit
(refused here).

**Limits**: text 4,096 characters; nesting 32; 9,999 steps of comprehensions per evaluation (fan out with `foreach`, or use an
action); a value that could hold its parts over 10,000 times is refused. What a comprehension or `matches` could cost over the
values at hand is told before it is evaluated (`_cel_cost`), and refused over 200 MB or 0.35 s: the library copies what `map` and
`filter` have built with each step, so they go over 3,400 elements, or over 9,999 where they are the whole expression
(`_cel_pieces`). Integers have 64 bits.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from wonder_ray.definitions import _cel_ast as ast
from wonder_ray.definitions._cel_cost import Meter
from wonder_ray.definitions._cel_counts import keep_none, lend, taken_back
from wonder_ray.definitions._cel_messages import ITERATIONS_MAX, compile_error, mended, shortened, shown
from wonder_ray.definitions._cel_paths import Trouble, as_python, roots_and_projections
from wonder_ray.definitions._cel_pieces import Pieces
from wonder_ray.definitions.caches import SizedCache
from wonder_ray.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wonder_ray.values import Json

NAMES = frozenset({"input", "state", "output", "item", "index", "result", "run", "token", "error"})
TEXT_LENGTH_MAX = 4096
GROWTH_MAX = 10_000
COST_MAX = 200_000_000
"""Of one evaluation, in nanoseconds and bytes."""
TOO_DEAR = "times the time or memory that an expression may"
_INT_MAX = 2**63 - 1
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RESERVED = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
        "int",
        "uint",
        "double",
        "bool",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
        "dyn",
        "google",
        "timestamp",
        "duration",
    ]
)
LETTERS_MAX = 250_000
"""Of all compiled expressions that are kept, about 110 MB: one of 4,096 letters takes up to 2 MB, one of 20 letters 1 KB."""
_OVERHEAD = 30
"""Letters that the shortest expression counts for."""
_encoder = msgspec.json.Encoder()


class _Program(Protocol):
    def eval(self, *, data: Mapping[str, Any]) -> Any: ...


class Expression:
    """A compiled expression; make it with `compile_expression`. Immutable, thread-safe, picklable; equal and hashed by its text.

    Attributes:
        text: What was written.
        names: The variables it uses, a subset of the names in scope.
    """

    __slots__ = ("_error_type", "_extra_names", "_fast", "_meter", "_pieces", "_program", "_projections", "names", "text")

    def __init__(self, text: str, extra_names: frozenset[str], program: _Program, tree: ast.Node, error_type: object) -> None:
        self.text = text
        self._extra_names = extra_names
        self._program = program
        self._error_type = error_type
        self.names, self._projections = roots_and_projections(tree, NAMES | extra_names)
        self._fast = as_python(tree)
        self._meter = meter if (meter := Meter(tree)).needed else None
        self._pieces = Pieces.of(tree)

    def evaluate(self, scope: Mapping[str, Json]) -> Any:
        """The value in this scope, a JSON value. Do not change it: it may be a part of the scope.

        Timestamps become RFC 3339 strings, durations seconds.

        Raises:
            ExpressionError: A name or key is missing, types do not fit, a number overflows, a limit is hit, or it is no JSON.

        >>> compile_expression("state.urls").evaluate({"state": {"urls": ["a"]}})
        ['a']
        """
        if self._fast is not None:
            try:
                return _json_leaf(self._fast(scope))
            except Trouble as trouble:
                raise self._error(str(trouble), scope) from None
        return self.evaluate_in_cel(scope)

    def evaluate_in_cel(self, scope: Mapping[str, Json]) -> Any:
        """`evaluate` without the short cut for paths and literals; equal to it, and only slower (tests compare the two)."""
        data = {name: projection.apply(scope[name]) for name, projection in self._projections if name in scope}
        try:
            text = _check_strings(data)
            return _json(self._run(data) if self._is_cheap(data, text) else self._run_in_pieces(data))
        except Exception as error:  # noqa: BLE001 - the library raises RuntimeError, UnicodeError and more; callers see one kind
            trouble = str(error)
        raise self._error(mended(trouble, scope), scope)

    def _run(self, data: Mapping[str, Any]) -> Any:
        with taken_back():
            found = self._program.eval(data=data)
            value = found.plain_value()
            if type(value) is str and found.type() == self._error_type:
                raise Trouble(value)
            return value

    def _run_in_pieces(self, data: Mapping[str, Any]) -> list[Any]:
        """What is too much at once; a `Trouble` where that cannot be taken in pieces, or is too much all the same."""
        pieces = self._pieces.split(data, ITERATIONS_MAX) if self._pieces else None
        spent = self._spent(data) if pieces is None else sum(map(self._spent, pieces))
        if pieces is None or spent > COST_MAX:
            msg = f"over such values it could take {spent / COST_MAX:.1f} {TOO_DEAR}; fan out with foreach, or do it in an action"
            raise Trouble(msg)
        return [value for piece in pieces for value in self._run(piece)]

    def _is_cheap(self, data: Mapping[str, Any], text: bytes) -> bool:
        return self._meter is None or self._meter.glance(text) <= COST_MAX or self._spent(data) <= COST_MAX

    def _spent(self, data: Mapping[str, Any]) -> float:
        return self._meter.cost(data) if self._meter else 0.0

    def evaluate_bool(self, scope: Mapping[str, Json]) -> bool:
        """The value of a condition.

        Raises:
            ExpressionError: As `evaluate`, or the value is not true or false.

        >>> compile_expression("state.n + 1").evaluate_bool({"state": {"n": 2}})
        Traceback (most recent call last):
        wonder_ray.errors.ExpressionError: expression `state.n + 1`: a condition is true or false; ...
        """
        value = self.evaluate(scope)
        if value is True or value is False:
            return value
        msg = f"a condition is true or false; this gave {shown(value)}"
        raise self._error(msg, scope)

    def keys_of(self, name: str) -> frozenset[str] | None:
        """The keys of a variable that it uses; None when it uses all of the variable.

        >>> sorted(compile_expression("state.a.b > 1 && has(state.c)").keys_of("state"))
        ['a', 'c']
        """
        for root, projection in self._projections:
            if root == name:
                return None if projection.whole else frozenset(projection.keys)
        return frozenset()

    def _error(self, message: str, scope: Mapping[str, Json]) -> ExpressionError:
        seen = ", ".join(
            f"{name} = {shown(projection.apply(scope[name]))}" for name, projection in self._projections if name in scope
        )
        return ExpressionError(f"expression `{shortened(self.text)}`: {message}" + (f" (with {shortened(seen)})" if seen else ""))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (compile_expression, (self.text, self._extra_names))


def compile_expression(text: str, extra_names: frozenset[str] = frozenset()) -> Expression:
    """Compile once, evaluate often. Cached, so that equal texts share one `Expression`.

    Args:
        text: CEL, at most 4,096 characters.
        extra_names: Names in scope beside `NAMES`: what a `foreach` calls its item.

    Raises:
        ExpressionError: The text is too long or too deep, has a syntax error, or uses a name that is not in scope.

    >>> compile_expression("page.url", extra_names=frozenset({"page"})).evaluate({"page": {"url": "/"}})
    '/'
    """
    if not isinstance(text, str):
        msg = f"an expression is a text; this is {type(text).__name__} {shown(text)}"
        raise ExpressionError(msg)
    if len(text) > TEXT_LENGTH_MAX:
        msg = f"expression `{shortened(text)}`: {len(text)} characters, more than {TEXT_LENGTH_MAX}; move the work into an action"
        raise ExpressionError(msg)
    return _compiled.get((text, extra_names), len(text) + _OVERHEAD, lambda: _compile(text, extra_names))


def _compile(text: str, extra_names: frozenset[str]) -> Expression:
    environment, error_type = _environment(extra_names)
    try:
        program = environment.compile(text)
        serialized = program.serialize()
        tree = ast.parse(serialized)
        if any(isinstance(node, ast.Comprehension) for node in ast.walk(tree)):
            program = environment.deserialize(ast.order_maps(serialized))
    except Exception as error:  # noqa: BLE001 - the library raises RuntimeError, UnicodeError and more; callers see one kind
        raise compile_error(text, str(error), NAMES | extra_names) from None
    if (grown := ast.growth(tree)) > GROWTH_MAX:
        size = f"{grown:,}" if grown < 10**9 else "over 10**9"
        msg = f"expression `{shortened(text)}`: its value could be {size} times the size of its parts; build it in an action"
        raise ExpressionError(msg)
    return Expression(text, extra_names, program, tree, error_type)


def render_mapping(mapping: Mapping[str, Expression], scope: Mapping[str, Json]) -> dict[str, Any]:
    """Every expression of a mapping, evaluated in the same scope.

    >>> render_mapping({"url": compile_expression("item"), "n": compile_expression("index + 1")}, {"item": "/", "index": 0})
    {'url': '/', 'n': 1}
    """
    return {key: expression.evaluate(scope) for key, expression in mapping.items()}


_compiled = SizedCache[Expression](LETTERS_MAX)


@lru_cache(maxsize=256)
def _environment(extra_names: frozenset[str]) -> tuple[Any, object]:
    for name in sorted(extra_names):
        if not _NAME.match(name) or name in _RESERVED or name.startswith("__"):
            msg = f"{name!r} cannot name an item in expressions: use letters, digits and _, and no word of CEL"
            raise ExpressionError(msg)
    from cel_expr_python import cel  # up to 21 ms, and only who evaluates needs it

    keep_none()
    dyn = cel.Type.DYN
    # One overload per type: the runtime does not find one for DYN.
    overloads = [
        cel.Overload(f"{ast.ORDERED}_{kind}", return_type=dyn, parameters=[of], impl=_sorted_keys)
        for kind, of in (("map", cel.Type.Map(dyn, dyn)), ("list", cel.Type.List(dyn)))
    ]
    variables = dict.fromkeys(NAMES | extra_names, dyn)
    return cel.NewEnv(variables=variables, functions=[cel.FunctionDecl(ast.ORDERED, overloads)]), cel.Type.ERROR


def _sorted_keys(range_: Any) -> Any:
    """What a comprehension walks: of a map its keys in one and the same order everywhere."""
    _check_strings(range_)
    lend(range_)
    if not isinstance(range_, dict):
        return range_
    keys = sorted(range_, key=lambda key: (type(key).__name__, key))
    lend(keys)
    return keys


def _json_leaf(value: Any) -> Any:
    """Refuse the scalars that CEL refuses; containers are parts of the scope, or of such, and not walked."""
    kind = type(value)
    if kind is int and not -_INT_MAX - 1 <= value <= _INT_MAX:
        msg = f"{value} needs more than 64 bits; write it as a string"
        raise Trouble(msg)
    if kind is float and not math.isfinite(value):
        msg = f"the value is {value}, which JSON cannot hold"
        raise Trouble(msg)
    return value


def _json(value: Any) -> Any:
    """The JSON value of what CEL gave; maps with sorted keys, since their order there is random."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float)):
        return _json_leaf(value)
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        if foreign := [key for key in value if not isinstance(key, str)]:
            msg = f"a map in the value has the key {foreign[0]!r}; JSON keys are strings: write string(key)"
            raise Trouble(msg)
        return {key: _json(value[key]) for key in sorted(value)}
    if isinstance(value, dt.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    msg = f"the value holds {type(value).__name__} {shown(value)}, which JSON cannot; for bytes write string(...) or base64 text"
    raise Trouble(msg)


def _check_strings(data: Any) -> bytes:
    r"""Refuse strings with NUL, which the library would cut there in silence (`"admin\\0x" == 'admin'`); gives it as JSON."""
    text = _encoder.encode(data)
    if b"\\u0000" in text and (where := _nul(data)) is not None:
        msg = f"the string {shown(where)} holds a NUL character, which CEL cannot; remove it before it gets here"
        raise Trouble(msg)
    return text


def _nul(value: Any) -> str | None:
    if isinstance(value, str):
        return value if "\0" in value else None
    below = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return next((found for item in below if (found := _nul(item)) is not None), None)
