from __future__ import annotations

from typing import Any


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, dict[str, Any]]] = []

    def info(self, event_type: str, message: str = "", **fields: Any) -> None:
        self.lines.append(("info", event_type, message, fields))

    def warning(self, event_type: str, message: str = "", **fields: Any) -> None:
        self.lines.append(("warning", event_type, message, fields))

    def error(self, event_type: str, message: str = "", **fields: Any) -> None:
        self.lines.append(("error", event_type, message, fields))

    def kinds(self) -> list[tuple[str, str]]:
        return [line[:2] for line in self.lines]
