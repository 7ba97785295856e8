"""One line of the operational log ("what went wrong"), and the bounds that keep any line small and storable.

>>> line = LogLine(timestamp=1_700_000_000_000_000, level="error", service="executor", event_type="rpc_timeout")
>>> bounded(line) is line
True
>>> truncate("x" * 1000, 40)
'xxxxxxxx [992 characters cut]'
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec

from wonder_ray import values
from wonder_ray.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
Service: TypeAlias = Literal["coordinator", "executor", "resources", "http", "events", "logs"]

LEVELS: tuple[Level, ...] = get_args(Level)
"""All levels, from the least to the most severe."""
SERVICES: tuple[Service, ...] = get_args(Service)

MESSAGE_CHARS_MAX = 16_384
STACK_CHARS_MAX = 32_768
METADATA_CHARS_MAX = 16_384
NAME_CHARS_MAX = 256
"""Limit of every other text of a line: event type, ids, host."""

_NOTE_CHARS_MAX = 32
_LINE_WEIGHT = 500  # what a line with short texts takes in memory, roughly
_ITEMS_MAX = 200  # of one container in metadata that had to be made presentable
_DEPTH_MAX = 12
_OTHER_NAMES: Mapping[str, Level] = MappingProxyType({"warn": "warning", "fatal": "critical", "notice": "info", "trace": "debug"})


class LogLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of the log, the same in memory, on the wire and (column by column, in this order) in the store.

    Attributes:
        timestamp: Microseconds since the Unix epoch, UTC, on the clock of whoever wrote the line.
        level: How bad it is.
        service: Which service wrote it.
        event_type: What happened, in snake case: `rpc_timeout`, `db_query_slow`; `stdout`, `stderr` or `log` for user code.
        message: The same for people.
        trace_id: The run id, where there is one.
        request_id: The HTTP request, where there is one.
        token_id: With `node_id` and `attempt`: the piece of user code that wrote the line.
        error_stack: A traceback.
        metadata: A JSON text: `json_extract(metadata, '$.duration_ms')` works in queries.

    Example:
        >>> LogLine(timestamp=0, level="info", service="http", event_type="request_received").message
        ''
    """

    timestamp: int
    level: Level
    service: Service
    event_type: str
    message: str = ""
    trace_id: str | None = None
    request_id: str | None = None
    workspace_id: str | None = None
    project_id: str | None = None
    node_id: str | None = None
    token_id: str | None = None
    attempt: int | None = None
    host: str | None = None
    pid: int | None = None
    error_stack: str | None = None
    metadata: str | None = None


_NAMES = ("event_type", "trace_id", "request_id", "workspace_id", "project_id", "node_id", "token_id", "host")


def truncate(text: str, chars_max: int) -> str:
    """The text itself if it is short enough, else its beginning and a note of how much was cut; never over `chars_max`.

    `chars_max` is at least 40, so that there is room for the note.
    """
    if len(text) <= chars_max:
        return text
    kept = chars_max - _NOTE_CHARS_MAX
    return f"{text[:kept]} [{len(text) - kept} characters cut]"


def truncate_middle(text: str, chars_max: int) -> str:
    """As `truncate`, but the cut is in the middle: of a traceback the last lines, the error itself, matter most."""
    if len(text) <= chars_max:
        return text
    kept = chars_max - _NOTE_CHARS_MAX
    head = kept // 3
    tail = kept - head
    return f"{text[:head]}\n[{len(text) - kept} characters cut]\n{text[-tail:]}"


def bounded(line: LogLine) -> LogLine:
    """The line with everything mended that a store could choke on; the same object when nothing is wrong with it.

    Long texts are truncated; NUL characters and lone surrogates, which neither UTF-8 nor SQLite can hold, are escaped;
    unknown levels and services are mapped to known ones; metadata that is no JSON text becomes one.
    """
    changes: dict[str, Any] = {}
    for name in _NAMES:
        value = getattr(line, name)
        if value is not None and not _is_fine(value, NAME_CHARS_MAX):
            changes[name] = truncate(_storable(value), NAME_CHARS_MAX)
    if not _is_fine(line.message, MESSAGE_CHARS_MAX):
        changes["message"] = truncate(_storable(truncate(_text(line.message), MESSAGE_CHARS_MAX)), MESSAGE_CHARS_MAX)
    if line.error_stack is not None and not _is_fine(line.error_stack, STACK_CHARS_MAX):
        short = truncate_middle(_text(line.error_stack), STACK_CHARS_MAX)
        changes["error_stack"] = truncate_middle(_storable(short), STACK_CHARS_MAX)
    if line.metadata is not None and not _is_json(line.metadata):
        changes["metadata"] = _as_json(line.metadata)
    if line.level not in LEVELS:
        changes["level"] = _OTHER_NAMES.get(str(line.level).lower(), "info")
    if line.service not in SERVICES:
        changes["service"] = "logs"
    return msgspec.structs.replace(line, **changes) if changes else line


def hidden(line: LogLine, hide: Callable[[str], str]) -> LogLine:
    """The line without secrets, before anything of it is shortened."""
    texts = {"message": line.message, "error_stack": line.error_stack, "metadata": line.metadata}
    changes = {name: found for name, text in texts.items() if isinstance(text, str) and (found := hide(text)) is not text}
    return msgspec.structs.replace(line, **changes) if changes else line


def weight(line: LogLine) -> int:
    """About how many bytes the line takes in memory: what buffers are bounded by."""
    return _LINE_WEIGHT + len(line.message) + len(line.error_stack or "") + len(line.metadata or "")


def is_severe(line: LogLine) -> bool:
    """Whether the line is a warning or worse: buffers keep a reserve for these."""
    return line.level in {"warning", "error", "critical"}


def metadata_text(fields: dict[str, Any]) -> str | None:
    """Fields as a JSON text within the limit; whatever is no JSON value is written as people would read it.

    >>> metadata_text({"duration_ms": 12.5, "where": {1, 1}})
    '{"duration_ms":12.5,"where":"{1}"}'
    """
    if not fields:
        return None
    try:
        text = values.encode(fields).decode()
    except Exception:  # noqa: BLE001 - no JSON, or a __repr__ that raises while that is being said
        text = values.encode_trusted(_presentable(fields, 0)).decode()
    return text if len(text) <= METADATA_CHARS_MAX else _as_json(text)


def dropped_line(origin: LogLine, counts: dict[str, int], reason: str) -> LogLine:
    """The line that reports lost lines; `origin` gives its time, service, host and pid, `counts` is per service."""
    total = sum(counts.values())
    return LogLine(
        timestamp=origin.timestamp,
        level="warning",
        service=origin.service,
        event_type="log_lines_dropped",
        message=f"{total} log lines were dropped: {reason}",
        host=origin.host,
        pid=origin.pid,
        metadata=metadata_text({"dropped": total, "by_service": dict(counts), "reason": reason}),
    )


def _is_fine(value: object, chars_max: int) -> bool:
    if type(value) is not str or len(value) > chars_max or "\0" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _storable(value: object) -> str:
    return _text(value).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a broken __repr__ must not cost the line
        return f"<unprintable {type(value).__name__}>"


def _is_json(text: object) -> bool:
    if not _is_fine(text, METADATA_CHARS_MAX):
        return False
    try:
        values.decode(text)  # type: ignore[arg-type] # _is_fine has seen that it is a str
    except PayloadError:
        return False
    return True


def _as_json(value: object) -> str:
    head = _storable(_text(value)[: METADATA_CHARS_MAX // 8])  # escaping can make it up to six times as long
    return values.encode_trusted({"text": head, "cut_chars": max(0, len(_text(value)) - len(head))}).decode()


def _presentable(value: object, depth: int) -> values.Json:
    """The value as JSON whatever it is: bounded in depth and width, so that no odd argument can make a line expensive."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN, which JSON cannot say
        return float(value)
    if depth < _DEPTH_MAX and isinstance(value, dict):
        some = list(value.items())[:_ITEMS_MAX]
        return {_short(key): _presentable(item, depth + 1) for key, item in some}
    if depth < _DEPTH_MAX and isinstance(value, (list, tuple)):
        return [_presentable(item, depth + 1) for item in value[:_ITEMS_MAX]]
    return _short(value)


def _short(value: object) -> str:
    return truncate(_storable(truncate(_text(value), NAME_CHARS_MAX)), NAME_CHARS_MAX)
