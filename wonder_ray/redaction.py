"""Hiding known secrets in whatever leaves a process: texts, JSON values, lines of output.

A secret is found as it is and as it usually travels: escaped in JSON or by `repr`, percent-encoded, in hex, in Base64 wherever it
begins in it, and (one of several lines) line by line. It is not found when it was taken apart or encrypted.

>>> redactor = Redactor()
>>> redactor.add("openai", "sk-12345678")
>>> redactor.text("Authorization: Bearer sk-12345678")
'Authorization: Bearer [secret:openai]'
>>> redactor.value({"keys": ["sk-12345678"]})
{'keys': ['[secret:openai]']}
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, quote_plus

from wonder_ray.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET_CHARS_MIN: Final = 8
"""A shorter value cannot be told from other text."""
SECRET_BYTES_MAX: Final = 8 * 1024
FORM_CHARS_MAX: Final = 3 * SECRET_BYTES_MAX
"""No form of a secret is longer."""
_PARTIAL_CHARS_MIN: Final = 6
_CUT: Final = re.compile(r"\.\.\.(?: \(\d+ characters\))?|…|\s?\[\d+ characters cut\]\s?")
"""What stands where a text was shortened: a secret may have been cut in two there."""
_CUT_SIGNS: Final = ("...", "…", "characters cut]")


class _Form(NamedTuple):
    """A way that a secret can look, and what stands there instead."""

    text: str
    mask: str


class Redactor:
    """Knows the secrets of a process, and hides them. Thread-safe; nothing costs anything before the first secret."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}
        self._forms: tuple[_Form, ...] = ()
        self._plain: tuple[_Form, ...] = ()

    @property
    def is_needed(self) -> bool:
        """Whether any secret is known."""
        return bool(self._forms)

    def add(self, name: str, value: str) -> None:
        """Hide this value from now on.

        Raises:
            SecretError: It is too short or too long to be hidden; the message does not quote it.
        """
        if len(value) < SECRET_CHARS_MIN:
            raise SecretError(
                f"secret {name!r} has fewer than {SECRET_CHARS_MIN} characters: it could not be told from other text, and hidden"
            )
        if len(value.encode("utf-8", "surrogatepass")) > SECRET_BYTES_MAX:
            raise SecretError(f"secret {name!r} has more than {SECRET_BYTES_MAX:,} bytes: it could not be hidden")
        if self._values.get(value) is not None:
            return
        with self._lock:
            self._values = {**self._values, value: f"[secret:{name}]"}
            forms = {text: mask for known, mask in self._values.items() for text in _forms(known)}
            # The longest first: a part must not be taken out of a whole.
            self._forms = tuple(_Form(*pair) for pair in sorted(forms.items(), key=lambda pair: -len(pair[0])))
            self._plain = tuple(_Form(known, mask) for known, mask in self._values.items())

    def text(self, text: str) -> str:
        """The text without what is known, also where a known one was cut off."""
        for form in self._forms:
            if form.text in text:
                text = text.replace(form.text, form.mask)
        if self._forms and any(sign in text for sign in _CUT_SIGNS):
            text = _hide_cut(text, self._plain)
        return text

    def touches(self, data: bytes) -> bool:
        """Whether anything in this JSON text has to be hidden: much quicker than `value`, for the usual case that nothing has."""
        text = data.decode("utf-8", "replace") if self._forms else ""
        return any(form.text in text for form in self._forms)

    def value(self, value: Any) -> Any:
        """A JSON value without what is known, keys and numbers included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and (shown := self.text(str(value))) != str(value):
            return shown
        return value


def no_hiding(text: str) -> str:
    """The text itself: for those who know no secrets."""
    return text


def _forms(value: str) -> Iterator[str]:
    """How a value can look; a line of one that has several is hidden, too, since output goes line by line."""
    parts = {value, value.strip()}
    parts |= {line.strip() for line in value.splitlines() if not line.strip().startswith("-----")}  # the frame of a PEM file
    for part in parts:
        if len(part) >= SECRET_CHARS_MIN:
            yield from _forms_of(part)


def _forms_of(part: str) -> Iterator[str]:
    data = part.encode("utf-8", "surrogatepass")
    yield part
    yield json.dumps(part)[1:-1]
    yield json.dumps(part, ensure_ascii=False)[1:-1]
    yield repr(part)[1:-1]
    yield html.escape(part)
    yield quote(data)
    yield quote(data, safe="")
    yield quote_plus(data)
    yield data.hex()
    yield data.hex().upper()
    encoders: tuple[Callable[[bytes], bytes], ...] = (base64.b64encode, base64.urlsafe_b64encode)
    for encode in encoders:
        for offset in range(3):
            inner = _inner(encode(b"\0" * offset + data).decode(), offset, len(data))
            if len(inner) >= SECRET_CHARS_MIN:
                yield inner


def _inner(encoded: str, offset: int, size: int) -> str:
    """The part of a Base64 text that depends on the value alone: its first and last characters may share bits with others."""
    start = (0, 2, 3)[offset]
    unsafe = (0, 3, 2)[(offset + size) % 3]
    return encoded[start : len(encoded) - unsafe]


def _hide_cut(text: str, known: tuple[_Form, ...]) -> str:
    """Hide what remains of a value before or behind a place where the text was shortened."""
    pieces: list[str] = []
    end = 0
    for cut in _CUT.finditer(text):
        pieces += [text[end : cut.start()], cut[0]]
        end = cut.end()
    pieces.append(text[end:])
    for place in range(0, len(pieces), 2):
        for form in known:
            if place + 1 < len(pieces):
                pieces[place] = _without_end(pieces[place], form)
            if place:
                pieces[place] = _without_beginning(pieces[place], form)
    return "".join(pieces)


def _without_end(piece: str, form: _Form) -> str:
    for size in range(min(len(form.text) - 1, len(piece)), _PARTIAL_CHARS_MIN - 1, -1):
        if piece.endswith(form.text[:size]):
            return piece[:-size] + form.mask
    return piece


def _without_beginning(piece: str, form: _Form) -> str:
    for size in range(min(len(form.text) - 1, len(piece)), _PARTIAL_CHARS_MIN - 1, -1):
        if piece.startswith(form.text[-size:]):
            return form.mask + piece[size:]
    return piece
