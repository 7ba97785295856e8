"""Failures as records: what user code raised, and code that could not be loaded.

>>> describe(KeyError("url")).type
'KeyError'
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from wonder_ray.errors import ActionError, CodeBundleError, ExpressionError, InputError, PayloadError, SecretError
from wonder_ray.executor.protocol import ErrorInfo
from wonder_ray.redaction import no_hiding

if TYPE_CHECKING:
    from collections.abc import Callable

    Hide = Callable[[str], str]

MESSAGE_CHARACTERS_MAX = 4_000
STACK_CHARACTERS_MAX = 16_000
_OWN_FILES = ("wonder_ray/executor/", "wonder_ray/bundles/")


def describe(error: BaseException, hide: Hide = no_hiding) -> ErrorInfo:
    """The record of an exception that came out of a call; it never raises, whatever the exception's `__str__` does.

    Args:
        error: The exception.
        hide: Takes secrets out of a text; called before anything is shortened.
    """
    message = _message(error, hide)
    if isinstance(error, ActionError):
        return ErrorInfo(_text(error.type, hide), message, bool(error.retryable), "user", _stack(error, hide))
    if isinstance(error, CodeBundleError):
        is_passing = isinstance(error.__cause__, OSError)  # the storage may be back for the next attempt
        return ErrorInfo("CodeBundleError", message, retryable=is_passing, kind="code", stack=_stack(error, hide))
    if isinstance(error, SecretError):
        return ErrorInfo("SecretError", message, retryable=error.retryable, kind="code", stack=_stack(error, hide))
    if isinstance(error, (ExpressionError, InputError)):  # the same input would fail in the same way
        return ErrorInfo(type(error).__name__, message, retryable=False, kind="user")
    return ErrorInfo(_text(type(error).__name__, hide), message, retryable=True, kind="user", stack=_stack(error, hide))


def describe_result(error: PayloadError, hide: Hide = no_hiding) -> ErrorInfo:
    """The record of a result that is no JSON or too large: another attempt would return the same."""
    return ErrorInfo("PayloadError", _message(error, hide), retryable=False, kind="result")


def _message(error: BaseException, hide: Hide) -> str:
    text = _text(error, hide)
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return text
    return f"{text[:MESSAGE_CHARACTERS_MAX]}... ({len(text)} characters)"


def _text(value: object, hide: Hide) -> str:
    """`str(value)`, valid as UTF-8, without secrets."""
    try:
        return hide(str(value).encode("utf-8", "backslashreplace").decode())
    except BaseException as problem:  # noqa: BLE001 - user code again: its __str__ may do anything
        return f"<{type(value).__name__} whose __str__ raised {type(problem).__name__}>"


def _stack(error: BaseException, hide: Hide) -> str:
    """The traceback from the first frame of user code on; of a long one its end."""
    try:
        trace = error.__traceback__
        while trace is not None and any(own in trace.tb_frame.f_code.co_filename for own in _OWN_FILES):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace)
        text = _text("".join(lines).rstrip(), hide)
    except BaseException as problem:  # noqa: BLE001 - as in _text
        return f"<no stack: formatting it raised {type(problem).__name__}>"
    return text if len(text) <= STACK_CHARACTERS_MAX else f"...\n{text[-STACK_CHARACTERS_MAX:]}"
