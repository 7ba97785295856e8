"""What conditions have to do with each other, told from their texts: which are the same, opposites, or exclude each other.

A condition is an *atom* that must hold, or must not. `x >= 3` is the atom `x < 3` that must not hold, so that it and `x < 3` are
never both true. Of `mode == 'a'` and `mode == 'b'` at most one is. All other conditions are free: each may be true or false.

>>> parse_condition("!(state.n < 3)") == parse_condition("state.n >= 3")
True
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.errors import ExpressionError

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


def subject(atom: Atom) -> Atom:
    """What an atom is about: atoms that exclude each other are about the same.

    >>> subject(parse_condition("input.mode == 'a'").atom)
    ('==', 'input.mode')
    """
    return atom[:2] if atom[0] == "==" else atom


def excludes(one: Atom, other: Atom) -> bool:
    """Whether two atoms cannot both hold: one value is not equal to two literals.

    >>> excludes(parse_condition("input.mode == 'a'").atom, parse_condition("input.mode == 'b'").atom)
    True
    """
    if one[0] == other[0] == "size":
        return one[1] == other[1] and one[2] != other[2]
    if one[0] != "==" or other[0] != "==" or one[1] != other[1] or one[2] == other[2]:
        return False
    return bool(_LITERAL.fullmatch(one[2]) and _LITERAL.fullmatch(other[2]))


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
