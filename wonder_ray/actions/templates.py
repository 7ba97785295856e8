"""Text templates for HTTP requests: `https://api.example.com/users/{{ user.id }}`. Each hole is a CEL expression.

Why CEL and not a template language such as Jinja's sandboxed environment: a sandbox takes dangers away from a language that has
them (attributes and methods of Python objects, loops, macros, filters), and has been escaped from wherever one was forgotten.
CEL has no attributes but the keys of data, no calls but its own functions, no way to write, and every expression has a bound on
its size and its steps already (`wonder_ray.definitions.expressions`). And it is the language that the rest of a definition is
written in. What it lacks, loops and blocks, a request does not need.

What a hole gives is escaped for where it stands: percent-encoded in a URL, so that data cannot add a path, a query or a host;
refused in a header when it holds a line break; a value of its own, and never text that is read again, in JSON.

>>> render_url("https://api.example.com/users/{{ user.id }}?q={{ q }}", {"user": {"id": "a/b"}, "q": "x&y=z"})
'https://api.example.com/users/a%2Fb?q=x%26y%3Dz'
>>> render_json({"n": "{{ n + 1 }}", "hello": "dear {{ name }}"}, {"n": 1, "name": '"} {{ n }}'})
{'n': 2, 'hello': 'dear "} {{ n }}'}
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.errors import ExpressionError
from wonder_ray.values import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Values = Mapping[str, Any]

TEMPLATE_CHARS_MAX: Final = 64 * 1024
RENDERED_CHARS_MAX: Final = 1024 * 1024
HOLES_MAX: Final = 100
"""In one text, or all texts of one JSON value."""
_HOLE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_BEFORE_PATH: Final = re.compile(r"https?://[^/?#{}]+[/?]", re.IGNORECASE)


def render_text(template: str, values: Values) -> str:
    """A text with its holes filled; lists and maps are written as JSON.

    Raises:
        ExpressionError: The template is too large, a hole cannot be evaluated, or the text grows too large.

    >>> render_text("{{ n }} of {{ all }}", {"n": 1, "all": [1, 2]})
    '1 of [1,2]'
    """
    return _Rendering(values).text(template, _as_it_is, in_body=True)


def render_header(template: str, values: Values) -> str:
    """The value of a header; the request refuses one with a line break in it."""
    return _Rendering(values).text(template, _as_it_is)


def render_url(template: str, values: Values) -> str:
    """A URL whose holes stand in its path or query; what fills one stays one segment of a path, or one value.

    Raises:
        ExpressionError: As `render_text`; a hole stands before the path; or a segment of the path becomes `.` or `..`.
    """
    if "{{" not in template:
        return template
    if not _BEFORE_PATH.match(template):
        raise ExpressionError(
            f"URL template {template[:80]!r}: `{{{{ ... }}}}` may stand in the path and the query only: where the host "
            "comes from data, give the whole URL as the node's input"
        )
    url = _Rendering(values).text(template, lambda text: quote(text, safe=""))
    if any(unquote(segment) in {".", ".."} for segment in url.partition("?")[0].split("/")[3:]):
        raise ExpressionError(f"URL template {template[:80]!r}: a segment of the path became `.` or `..`, which leads elsewhere")
    return url


def render_json(template: Any, values: Values) -> Any:
    """A JSON value whose texts are templates; a text that is nothing but a hole becomes the value itself.

    Raises:
        ExpressionError: As `render_text`, over all of it.
    """
    return _Rendering(values).json(template)


def _as_it_is(text: str) -> str:
    return text


class _Rendering:
    """One template, or the many of one JSON value, with what they may grow to."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._names = frozenset(values)
        self._holes = 0
        self._size = 0

    def json(self, template: Any) -> Any:
        if isinstance(template, dict):
            return {key: self.json(item) for key, item in template.items()}
        if isinstance(template, list):
            return [self.json(item) for item in template]
        if not isinstance(template, str):
            return template
        alone = _HOLE.fullmatch(template.strip())
        if alone is None or "{{" in alone[1]:
            return self.text(template, _as_it_is, in_body=True)
        value = self._value(alone[1])
        self._grow(len(encode(value)))
        return value

    def text(self, template: str, escape: Callable[[str], str], *, in_body: bool = False) -> str:
        if len(template) > TEMPLATE_CHARS_MAX:
            raise ExpressionError(f"a template has at most {TEMPLATE_CHARS_MAX:,} characters; this one has {len(template):,}")
        parts = _HOLE.split(template)
        if any("{{" in part for part in parts[::2]):
            raise ExpressionError(f"template {template[:80]!r}: a `{{{{` is not closed by `}}}}`")
        rendered = list[str]()
        for number, part in enumerate(parts):
            rendered.append(escape(self._text(part, in_body=in_body)) if number % 2 else part)
            self._grow(len(rendered[-1]))
        return "".join(rendered)

    def _text(self, expression: str, *, in_body: bool) -> str:
        value = self._value(expression)
        if isinstance(value, str):
            return value
        if value is None or (isinstance(value, (dict, list)) and not in_body):
            what = "null" if value is None else "a list or map"
            raise ExpressionError(f"expression `{expression.strip()[:80]}`: it gave {what}, where a text is needed")
        return encode(value).decode()

    def _value(self, expression: str) -> Any:
        self._holes += 1
        if self._holes > HOLES_MAX:
            raise ExpressionError(f"a template has at most {HOLES_MAX} holes")
        return compile_expression(expression.strip(), self._names).evaluate(self._values)

    def _grow(self, by: int) -> None:
        self._size += by
        if self._size > RENDERED_CHARS_MAX:
            raise ExpressionError(f"a template grows over {RENDERED_CHARS_MAX:,} characters")
