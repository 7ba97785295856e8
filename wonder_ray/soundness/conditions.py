"""What conditions have to do with each other, told from their texts: which are the same, opposites, or exclude each other.

A condition is an *atom* that must hold, or must not. `x >= 3` is the atom `x < 3` that must not hold, so that it and `x < 3` are
never both true. Of `mode == 'a'` and `mode == 'b'` at most one is, and `x < 3` holds only where `x < 5` does. What `&&` and `||`
put together is as its parts are. All other conditions are free: each may be true or false.

>>> parse_condition("!(state.n < 3)") == parse_condition("state.n >= 3")
True
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Atom = tuple[str, ...]
"""`("==", left, right)`, `("<", left, right)`, `("", text)`, or for a list or number of the input `("size", text, size)`."""
_PIECES: Final = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(==|!=|<=|>=|&&|\|\||[<>?()\[\]{}])""")
_COMPARED: Final = {"==": ("==", False, True), "!=": ("==", False, False), "<": ("<", False, True), ">=": ("<", False, False),
                    ">": ("<", True, True), "<=": ("<", True, False)}  # fmt: skip
"""Operator -> (operator of the atom, whether its sides change places, whether it must hold)."""
_LITERAL: Final = re.compile(r"""-?\d+(?:\.\d+)?|true|false|null|"[^"\\]*"|'[^'\\]*'""")
_UNIT: Final = re.compile(r"[\w.]+")
_STRING: Final = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""")
_NAME: Final = re.compile(r"(?<![\w.])[A-Za-z_]\w*\b(?!\s*\()")
_WORDS: Final = frozenset({"true", "false", "null", "in"})


class Condition(NamedTuple):
    """A text, understood."""

    atom: Atom
    holds: bool
    """Whether the condition is met when the atom holds."""
    constant: bool | None
    """What it always is, where it names nothing."""
    of_input: bool
    """Whether it is about the run's input only, which never changes."""


@lru_cache(maxsize=4096)
def parse_condition(text: str) -> Condition:
    """What a condition is about."""
    names = names_in(text)
    atom, holds = _parse(text.strip())
    constant = _constant(text) if not names else None
    if constant is None and atom[0] and atom[1] == atom[2]:
        constant = holds is (atom[0] == "==")
    return Condition(atom, holds, constant, names == {"input"})


@lru_cache(maxsize=4096)
def parts_of(text: str) -> tuple[str, tuple[Condition, ...]] | None:
    """`&&` or `||`, and the conditions that it puts together; None for all else.

    >>> parts_of("state.a && state.b < 3")[0]
    '&&'
    """
    top = [(match[0], match.span()) for match, depth in _operators(text) if depth == 0]
    if "?" in _STRING.sub("", text):
        return None  # one of two, which is not looked into
    for operator in ("||", "&&"):
        at = [span for found, span in top if found == operator]
        if at:
            begins, ends = [0, *(end for _, end in at)], [*(begin for begin, _ in at), len(text)]
            return operator, tuple(parse_condition(text[begin:end].strip()) for begin, end in zip(begins, ends, strict=True))
    return None


def pieces(condition: Condition) -> list[Condition]:
    """What a condition is put together of, down to what is decided by itself."""
    parts = None if condition.atom[0] else parts_of(condition.atom[1])
    return [condition] if parts is None else [one for part in parts[1] for one in pieces(part)]


def subject(atom: Atom) -> Atom:
    """What an atom is about: of what is said of the same, not all may be possible together.

    >>> subject(parse_condition("input.mode == 'a'").atom)
    ('of', 'input.mode')
    >>> subject(parse_condition("input.n > 3").atom)
    ('of', 'input.n')
    """
    if atom[0] == "size":
        return atom[:2]
    sides = [side for side in atom[1:] if not _LITERAL.fullmatch(side)]
    return ("of", sides[0]) if atom[0] and len(sides) == 1 else atom


def are_possible(facts: Iterable[tuple[Atom, bool]]) -> bool:
    """Whether all of these can be so at once: a value is one value, and lies within all its bounds.

    >>> are_possible([(("<", "x", "3"), True), (("<", "x", "5"), False)])
    False
    """
    about: dict[Atom, dict[Atom, bool]] = {}
    for atom, holds in facts:
        if about.setdefault(subject(atom), {}).setdefault(atom, holds) is not holds:
            return False
    return all(len(found) == 1 or _is_one_value(found) for found in about.values())


def _is_one_value(facts: Mapping[Atom, bool]) -> bool:
    equal = {_value(atom) for atom, holds in facts.items() if atom[0] != "<" and holds}
    unequal = {_value(atom) for atom, holds in facts.items() if atom[0] != "<" and not holds}
    if len(equal) > 1 or not equal.isdisjoint(unequal):
        return False
    bounds = [(atom, holds) for atom, holds in facts.items() if atom[0] == "<" and isinstance(_value(atom), float)]
    above = [(_value(atom), int(holds)) for atom, holds in bounds if _is_upper(atom) is not holds]  # 1: and not the bound itself
    below = [(_value(atom), -int(holds)) for atom, holds in bounds if _is_upper(atom) is holds]
    if not (above and below):
        lowest, highest = (max(above) if above else None), (min(below) if below else None)
    else:
        lowest, highest = max(above), min(below)
        if lowest > highest or (lowest[0] == highest[0] and (lowest[1] or highest[1] or lowest[0] in unequal)):
            return False
    value = next(iter(equal), None)
    if not isinstance(value, float):
        return True
    return (lowest is None or (value, 0) >= lowest) and (highest is None or (value, 0) <= highest)


def _is_upper(atom: Atom) -> bool:
    return _LITERAL.fullmatch(atom[2]) is not None


def _value(atom: Atom) -> float | str:
    """The literal of an atom, a number as one."""
    text = atom[2] if atom[0] == "size" or _is_upper(atom) else atom[1]
    try:
        return float(text)
    except ValueError:
        return text


def names_in(text: str) -> set[str]:
    """The names that an expression uses; of a macro also those that it introduces."""
    return set(_NAME.findall(_STRING.sub("''", text))) - _WORDS


def _constant(text: str) -> bool | None:
    try:
        return compile_expression(text).evaluate_bool({})
    except ExpressionError:
        return None


def _parse(text: str) -> tuple[Atom, bool]:
    text = _without_parentheses(text)
    if text.startswith("!"):
        rest = text[1:].strip()
        if _is_unit(rest.lstrip("! ")):
            atom, holds = _parse(rest)
            return atom, not holds
    found = [(match[0], match.span()) for match, depth in _operators(text) if depth == 0 and match[2] not in set("()[]{}")]
    if len(found) == 1 and found[0][0] in _COMPARED:
        operator, (begin, end) = found[0]
        sides = (text[:begin].strip(), text[end:].strip())
        name, turned, holds = _COMPARED[operator]
        return (name, *(sides[::-1] if turned else sides)), holds
    return ("", text), True


def _is_unit(text: str) -> bool:
    """Whether a `!` before it negates all of it: a path, a call, or what stands in parentheses."""
    if _UNIT.fullmatch(text):
        return True
    closing = [match.end() for match, depth in _operators(text) if depth == 0 and match[2] == ")"]
    return closing[:1] == [len(text)] and bool(re.match(r"[\w.]*\(", text))


def _operators(text: str) -> list[tuple[re.Match[str], int]]:
    """The operators and brackets outside of strings, each with its depth."""
    found, depth = [], 0
    for match in _PIECES.finditer(text):
        if match[1]:
            continue
        if match[2] in ")]}":
            depth -= 1
        found.append((match, depth))
        if match[2] in "([{":
            depth += 1
    return found


def _without_parentheses(text: str) -> str:
    while text.startswith("(") and text.endswith(")"):
        closing = [match.start() for match, depth in _operators(text) if depth == 0 and match[2] == ")"]
        if closing[:1] != [len(text) - 1]:
            break
        text = text[1:-1].strip()
    return text
