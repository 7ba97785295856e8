"""What stands in for `sys.stdout` and `sys.stderr` while output is captured, and how pieces of text become lines."""

from __future__ import annotations

import codecs
import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_BYTES = 64 * 1024


class Sink(Protocol):
    """Where text of a capture goes."""

    def feed(self, stream: str, text: str) -> None:
        """Take what was written to `stream` (`stdout` or `stderr`)."""

    def feed_bytes(self, stream: str, data: memoryview) -> None:
        """Take what was written to the stream's `buffer`."""


class RoutedStream(io.TextIOBase):
    """A text stream that asks, at each write, who the write belongs to; without an owner it goes to the original."""

    def __init__(self, stream: str, original: TextIO | None, find_sink: Callable[[], Sink | None]) -> None:
        self._stream = stream
        self._original = original
        self._find_sink = find_sink
        self._buffer = _RoutedBuffer(stream, original, find_sink)

    def write(self, text: str, /) -> int:
        """As of any text stream."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        sink = self._find_sink()
        if sink is not None:
            sink.feed(self._stream, text)
        elif self._original is not None:
            self._original.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the original; captured text has no need of it."""
        if self._original is not None and self._find_sink() is None:
            self._original.flush()

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The original's descriptor, for subprocesses: what they write is not captured."""
        if self._original is None:
            raise OSError("this process has no such stream")
        return self._original.fileno()

    def close(self) -> None:
        """Nothing: the stream is the process's, not the action's."""

    def reconfigure(self, **_options: Any) -> None:
        """Nothing: captured text is not encoded."""

    @property
    def buffer(self) -> io.RawIOBase:
        """The binary side, captured as well (UTF-8)."""
        return self._buffer

    @property
    def name(self) -> str:
        """As the process's own stream is called."""
        return f"<{self._stream}>"

    @property
    def encoding(self) -> str:  # type: ignore[override] # a plain attribute there
        """What the original says, UTF-8 by default."""
        return getattr(self._original, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override] # a plain attribute there
        """What the original says."""
        return getattr(self._original, "errors", None)


class _RoutedBuffer(io.RawIOBase):
    def __init__(self, stream: str, original: TextIO | None, find_sink: Callable[[], Sink | None]) -> None:
        self._stream = stream
        self._original = original
        self._find_sink = find_sink

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        sink = self._find_sink()
        if sink is not None:
            sink.feed_bytes(self._stream, view)
        elif self._original is not None:
            with suppress(AttributeError):  # a text-only stream, such as a StringIO, has no binary side
                self._original.buffer.write(view)
        return view.nbytes

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        pass


class LineAssembler:
    r"""Joins the pieces that one thread writes to one stream into lines; holds at most `chars_max` of an unfinished one.

    A carriage return starts the line anew, as on a terminal, so that a progress bar is one line with its last state.

    Args:
        chars_max: Of a line.
        hide: Takes secrets out of a line; until then up to `hidden_chars_max` more characters of it are held, so that none is
            cut in two.
        hidden_chars_max: The longest form of a secret.

    Attributes:
        chars_dropped: Characters that were cut from lines or skipped, line ends not counted.
        lines_dropped: Lines that were skipped.

    Example:
        >>> assembler = LineAssembler(5)
        >>> list(assembler.lines("ab")), list(assembler.lines("c\n10%\r20%\nlong line\n"))
        ([], ['abc', '20%', 'long  [4 characters cut]'])
    """

    __slots__ = (
        "_chars_max",
        "_cut",
        "_decoder",
        "_head",
        "_held_max",
        "_hide",
        "_returned",
        "_skipping",
        "_started",
        "chars_dropped",
        "lines_dropped",
    )

    def __init__(self, chars_max: int, hide: Callable[[str], str] | None = None, hidden_chars_max: int = 0) -> None:
        self._chars_max = chars_max
        self._hide = hide
        self._held_max = chars_max if hide is None else chars_max + hidden_chars_max
        self._decoder: codecs.IncrementalDecoder | None = None
        self.chars_dropped = 0
        self.lines_dropped = 0
        self._skipping = False
        self._begin()

    def lines(self, text: str) -> Iterator[str]:
        """The lines that end in this text. Whoever stops midway calls `skip` with what was not asked for."""
        start = 0
        while (end := text.find("\n", start)) >= 0:
            self._extend(text, start, end)
            yield self._finish()
            start = end + 1
        self._extend(text, start, len(text))

    def rest(self) -> str | None:
        """The unfinished line, if there is one that has not been skipped."""
        if self._skipping:
            self._skipping = False
            self.lines_dropped += 1
        return self._finish() if self._started else None

    def skip(self, text: str, start: int = 0) -> None:
        """Count the text from `start` on as dropped, without looking at it, and the line that was unfinished before it."""
        if start == len(text):
            return
        if self._started:
            self.chars_dropped += len(self._head) + self._cut
            self._begin()
        ends = text.count("\n", start)
        self.lines_dropped += ends
        self.chars_dropped += len(text) - start - ends
        self._skipping = text[-1] != "\n"

    def decode(self, data: memoryview) -> Iterator[str]:
        """Bytes as text, in pieces; a character may be split between calls."""
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for start in range(0, data.nbytes, _CHUNK_BYTES):
            yield self._decoder.decode(data[start : start + _CHUNK_BYTES])

    def _begin(self) -> None:
        self._head = ""
        self._cut = 0
        self._returned = False
        self._started = False

    def _extend(self, text: str, start: int, end: int) -> None:
        if start == end:
            return
        last_return = text.rfind("\r", start, end - 1)
        if last_return >= 0 or self._returned:
            self._begin()
            start = max(start, last_return + 1)
        self._started = True
        self._returned = text[end - 1] == "\r"
        kept = min(end, start + self._held_max - len(self._head))
        self._head += text[start:kept]
        self._cut += end - kept

    def _finish(self) -> str:
        head, cut = self._head.rstrip("\r"), self._cut - (self._returned and self._cut > 0)
        if self._hide is not None:
            head = self._hide(head)
            cut += max(0, len(head) - self._chars_max)
            head = head[: self._chars_max]
        self.chars_dropped += cut
        self._begin()
        return f"{head} [{cut} characters cut]" if cut else head
