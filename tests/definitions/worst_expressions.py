"""The dearest evaluations that are not refused: what they take. Prints a line of JSON, in a process of its own.

python tests/definitions/worst_expressions.py [EVERY]
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.expressions import COST_MAX, Expression, compile_expression
from wonder_ray.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS: Final = Path("/proc/self/status")
CLEAR: Final = Path("/proc/self/clear_refs")
LARGEST: Final = 4_096
PATTERNS: Final = "|".join(f"a{{{n}}}b" for n in range(1, 300))


def rows(count: int) -> list[Any]:
    return [{"name": f"name{n}", "ok": n % 7 == 0, "l": [1, 2, 3]} for n in range(count)]


def numbers(count: int) -> list[int]:
    return list(range(1_000, 1_000 + count))


SHAPES: Final[list[tuple[str, Callable[[int], dict[str, Any]]]]] = [
    ("item.map(x, x)", lambda n: {"item": numbers(n)}),
    ("item.filter(x, true)", lambda n: {"item": numbers(n)}),
    ("item.map(x, item)", lambda n: {"item": numbers(n)}),
    ("item.map(x, {'a': item})", lambda n: {"item": rows(n)}),
    ("item.map(x, {'a': x, 'b': [x], 'c': {'d': x}})", lambda n: {"item": rows(n)}),
    ("item.map(x, [x, [x], [[x]]])", lambda n: {"item": numbers(n)}),
    ("item.map(x, state)", lambda n: {"item": numbers(1_000), "state": {f"k{i}": i for i in range(n)}}),
    ("item.map(x, state + state)", lambda n: {"item": numbers(1_000), "state": "x" * 8 * n}),
    ("item.map(x, state + '\U0001f600')", lambda n: {"item": numbers(1_000), "state": "x" * 8 * n}),
    ("item.map(x, state.map(y, y))", lambda n: {"item": numbers(8), "state": numbers(n)}),
    ("item.all(x, size(item + item) > 0)", lambda n: {"item": numbers(n)}),
    ("item.all(x, size(state + 'a') > 0)", lambda n: {"item": numbers(2_000), "state": "x" * 8 * n}),
    ("item.all(x, !(-1 in state))", lambda n: {"item": numbers(9_000), "state": numbers(n)}),
    ("item.all(x, !(-1 in state.map(y, y + 1)))", lambda n: {"item": numbers(8), "state": numbers(n)}),
    ("item.all(x, state == [state][0])", lambda n: {"item": numbers(1_000), "state": [{f"b{i}": 1} for i in range(n)]}),
    ("item.all(x, !state.matches('a*b'))", lambda n: {"item": numbers(100), "state": "a" * 8 * n}),
    ("item.matches('(a?){400}b')", lambda n: {"item": "a" * 8 * n}),
    ("item.matches(state)", lambda n: {"item": "a" * 8 * n, "state": PATTERNS}),
    ("item.all(x, (true ? state : []).exists(y, true))", lambda n: {"item": numbers(1_000), "state": numbers(n)}),
    ("item.all(x, state.exists(y, true))", lambda n: {"item": numbers(1_000), "state": {f"k{i}": i for i in range(n)}}),
    ("item.map(x, state[x % 2])", lambda n: {"item": numbers(n), "state": [[1], numbers(1_000)]}),
    ("[item, item, item, item].map(x, x.map(y, y))", lambda n: {"item": numbers(n)}),
    ("item.map(x, x.l.map(y, x))", lambda n: {"item": rows(n)}),
    ("item.map(x, string(bytes(state)))", lambda n: {"item": numbers(1_000), "state": "é" * 8 * n}),
    ("item.filter(x, x.ok).filter(x, x.ok).map(x, {'n': x.name, 'o': x})", lambda n: {"item": rows(n)}),
    ("item.map(a, item.map(b, [a, b]))", lambda n: {"item": numbers(n)}),
]


def memory(name: str) -> float:
    """Megabytes: `VmRSS` is what is held now, `VmHWM` the most since the mark."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) / 1024


def largest(expression: Expression, scope_of: Callable[[int], dict[str, Any]]) -> int:
    """How far the data can grow until it is refused."""
    assert expression._meter is not None
    low, high = 1, LARGEST
    while low < high:
        middle = (low + high + 1) // 2
        if expression._meter.cost(scope_of(middle)) > COST_MAX:
            high = middle - 1
        else:
            low = middle
    return low


def main() -> None:
    told = []
    for text, scope_of in SHAPES[:: int(sys.argv[1]) if len(sys.argv) > 1 else 1]:
        expression = compile_expression(text)
        size = largest(expression, scope_of)
        scope = scope_of(size)
        with suppress(OSError):  # without it the mark is the process's, and the test is only stricter
            CLEAR.write_text("5")
        held, began = memory("VmRSS"), time.process_time()
        try:
            expression.evaluate(scope)
            answer = "value"
        except ExpressionError as error:
            answer = "steps" if "more than 9,999 steps" in str(error) else str(error)
        cpu_s = round(time.process_time() - began, 3)
        told.append({"text": text, "size": size, "answer": answer, "cpu_s": cpu_s, "peak_mb": round(memory("VmHWM") - held, 1)})
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
