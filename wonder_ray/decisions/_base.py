"""What all decisions share."""

from __future__ import annotations

from typing import Any

import msgspec


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of all decisions."""


class Write(msgspec.Struct, frozen=True, gc=False):
    """One assignment to the context."""

    target: str
    """Canonical target path, such as `state.pages`."""
    value: Any
    op: str = "set"
