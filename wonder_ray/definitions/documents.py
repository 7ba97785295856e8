"""JSON and YAML texts <-> plain values, with what a definition file needs: no key twice, no surprises, bounded work.

YAML is read by the rules of YAML 1.2's core schema, so that `on:` is a key and `no` a text; dates stay texts; keys are texts as
they stand. There are no tags and so no objects. Anchors, aliases and merge keys (`<<`) work, within bounds.

>>> parse_yaml("transitions: [{from: a, to: b, on: failed}]")
{'transitions': [{'from': 'a', 'to': 'b', 'on': 'failed'}]}
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import yaml

from wonder_ray.errors import DefinitionError, PayloadError
from wonder_ray.values import DEPTH_MAX, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wonder_ray.definitions.checks.problems import Place

VALUES_MAX: Final = 10_000_000
"""How many values a document may hold, aliases expanded."""
ALIASED_MAX: Final = 1_000_000
"""How many of them may come from aliases."""
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = MappingProxyType({"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False})
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_INT_DIGITS_MAX = 300
_MERGE = "<<"


class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc] # the base depends on how PyYAML was built
    """Quotes every text that YAML 1.1 or 1.2 would take for something else, and writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the hook's signature
        """Write shared values in full."""
        return True


Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
Dumper.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        DefinitionError: It is none, or a key stands twice in one object.

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    wonder_ray.errors.DefinitionError: key 'a' stands twice in one object; remove one
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        msg = f"line {error.lineno}: not a JSON text: {error.msg} (column {error.colno})"
        raise DefinitionError(msg) from None
    except (RecursionError, ValueError) as error:  # too deep; an integer of thousands of digits
        msg = f"not a usable JSON text: {error}"
        raise DefinitionError(msg) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        msg = f"key {twice[:80]!r} stands twice in one object; remove one"
        raise DefinitionError(msg)
    return found


def _refuse_constant(name: str) -> float:
    msg = f"{name} is no JSON value; use null or a number"
    raise DefinitionError(msg)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text with one document.

    Raises:
        DefinitionError: It is none, a key stands twice, or it uses what is not supported; the message has the line.
    """
    try:
        return _Reader().read(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        msg = f"{line}not a YAML text: {error.problem or error.context}"
        raise DefinitionError(msg) from None
    except (yaml.YAMLError, UnicodeEncodeError) as error:  # a lone surrogate
        msg = f"not a YAML text: {error}"
        raise DefinitionError(msg) from None


def check_value(value: Any) -> None:
    """Raise a `DefinitionError` when a parsed value could not be stored and hashed (NaN, lone surrogates, too deep)."""
    try:
        encode(value)
    except (PayloadError, UnicodeEncodeError, OverflowError) as error:
        raise DefinitionError(str(error)) from None


def write_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_yaml(value: Any) -> str:
    """Block-style YAML that YAML 1.1 and 1.2 readers understand alike.

    >>> print(write_yaml({"on": "no", "version": "1e3"}), end="")
    'on': 'no'
    version: '1e3'
    """
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False))


def lines_of(text: str, places: Iterable[Place]) -> dict[Place, int]:
    r"""The line (from 1) at which each place of a JSON or YAML text begins, or the nearest part above it that is there.

    >>> lines_of("nodes:\n- id: a\n- id: b\n", [("nodes", 1, "id"), ("nodes", 0, "input", "x")])
    {('nodes', 1, 'id'): 3, ('nodes', 0, 'input', 'x'): 2}
    """
    places = list(places)
    wanted = {place[:n] for place in places for n in range(len(place) + 1)}
    try:
        found = {place: line for place, line in _walk(text) if place in wanted}
    except yaml.YAMLError:
        return {}
    return {place: _nearest(place, found) for place in places} if found else {}


def _nearest(place: Place, found: dict[Place, int]) -> int:
    return next(found[place[:n]] for n in range(len(place), -1, -1) if place[:n] in found)


class _Level:
    """A list or map that is being read."""

    def __init__(self, place: Place, *, is_map: bool) -> None:
        self.place = place
        self.is_map = is_map
        self.key: str | None = None
        self.line = 0
        self.count = 0


def _walk(text: str) -> Iterator[tuple[Place, int]]:
    """Every value's place and line, in the order of the text."""
    levels: list[_Level] = []
    for event in _events(text):
        if isinstance(event, yaml.CollectionEndEvent):
            levels.pop()
        elif isinstance(event, yaml.NodeEvent):
            line = _line(event)
            place: Place = ()
            if levels:
                level = levels[-1]
                if level.is_map and level.key is None:
                    level.key, level.line = str(getattr(event, "value", "")), line
                    continue
                place = (*level.place, level.count if level.key is None else level.key)
                line = level.line if level.is_map else line
                level.key, level.count = None, level.count + 1
            yield place, line
            if isinstance(event, yaml.CollectionStartEvent):
                levels.append(_Level(place, is_map=isinstance(event, yaml.MappingStartEvent)))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _events(text: str) -> Iterator[Any]:
    return iter(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


class _Open:
    """A list or map that is being built."""

    def __init__(self, made: list[Any] | dict[str, Any], anchor: str | None, before: int) -> None:
        self.made = made
        self.anchor = anchor
        self.before = before
        """How many values the document held before it."""
        self.key: str | None = None
        self.merging = False
        self.merged: dict[str, Any] = {}


class _Reader:
    """Builds values from the parser's events: no recursion, no aliases that grow without bound, no key twice."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._aliased = 0
        self._documents = 0
        self._result: Any = None

    def read(self, text: str) -> Any:
        for event in _events(text):
            try:
                self._take(event)
            except DefinitionError as error:
                msg = f"line {_line(event)}: {error}"
                raise DefinitionError(msg) from None
        return self._result

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._start(event, {} if kind is yaml.MappingStartEvent else [])
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._end()
        elif kind is yaml.AliasEvent:
            self._alias(event.anchor)
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                msg = "a second document begins here; a file holds one definition"
                raise DefinitionError(msg)

    def _scalar(self, event: Any) -> None:
        _check_tag(event.tag)
        text = event.value
        plain = event.implicit[0] and not event.style
        if self._wants_key():
            self._key(text, merging=plain and text == _MERGE)
            return
        self._count += 1
        value = _plain(text) if plain else text
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._put(value)

    def _start(self, event: Any, made: list[Any] | dict[str, Any]) -> None:
        _check_tag(event.tag)
        if self._wants_key():
            msg = "a key is a list or map; keys are texts"
            raise DefinitionError(msg)
        if len(self._open) >= DEPTH_MAX:
            msg = f"nested deeper than {DEPTH_MAX}"
            raise DefinitionError(msg)
        self._open.append(_Open(made, event.anchor, self._count))
        self._count += 1
        if self._count > VALUES_MAX:
            msg = f"more than {VALUES_MAX:,} values"
            raise DefinitionError(msg)

    def _end(self) -> None:
        done = self._open.pop()
        made = done.made
        if done.merged and isinstance(made, dict):
            made = done.merged | made
        if done.anchor is not None:
            self._anchors[done.anchor] = (made, self._count - done.before)
        self._put(made)

    def _alias(self, anchor: str) -> None:
        if self._wants_key():
            msg = "a key is an alias; keys are texts"
            raise DefinitionError(msg)
        if anchor not in self._anchors:
            msg = f"alias *{anchor[:80]} names no complete value before it"
            raise DefinitionError(msg)
        value, size = self._anchors[anchor]
        self._count += size
        self._aliased += size
        if self._aliased > ALIASED_MAX:
            msg = f"aliases repeat more than {ALIASED_MAX:,} values"
            raise DefinitionError(msg)
        self._put(value)

    def _wants_key(self) -> bool:
        return bool(self._open) and self._open[-1].key is None and isinstance(self._open[-1].made, dict)

    def _key(self, key: str, *, merging: bool) -> None:
        at = self._open[-1]
        if key in at.made and not merging:
            msg = f"key {key[:80]!r} stands twice in one map; remove one"
            raise DefinitionError(msg)
        at.key, at.merging = key, merging

    def _put(self, value: Any) -> None:
        if not self._open:
            self._result = value
            return
        at = self._open[-1]
        if isinstance(at.made, list):
            at.made.append(value)
        elif at.merging:
            for one in reversed(value if isinstance(value, list) else [value]):
                if not isinstance(one, dict):
                    msg = f"{_MERGE} takes in maps only"
                    raise DefinitionError(msg)
                at.merged |= one
            at.key, at.merging = None, False
        elif at.key is not None:
            at.made[at.key] = value
            at.key = None


def _check_tag(tag: str | None) -> None:
    if tag is not None and tag != "!":
        msg = f"tag {tag[:80]!r} is not supported; remove it, and put quotes around what is meant as a text"
        raise DefinitionError(msg)


def _plain(text: str) -> Any:
    """An unquoted scalar by the core schema of YAML 1.2."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _INT.fullmatch(text):
        if len(text) > _INT_DIGITS_MAX:
            msg = f"an integer of {len(text)} digits"
            raise DefinitionError(msg)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    if _NOT_FINITE.fullmatch(text) or _FLOAT.fullmatch(text):
        msg = f"{text[:80]} is no JSON value; use null or a number"
        raise DefinitionError(msg)
    return text
