"""Where the registry of a storage folder lives: in its `resources.sqlite`, or in a PostgreSQL that `$WONDER_RESOURCES_URL` names.

A folder remembers when it was PostgreSQL: a registry that starts empty beside one that is full would deny that any run exists,
and start them all again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from wonder_ray.errors import StorageError

if TYPE_CHECKING:
    from wonder_ray.storage.layout import Layout

ENVIRONMENT_VARIABLE: Final = "WONDER_RESOURCES_URL"
_HIDDEN: Final = frozenset({"password", "sslpassword"})


def resources_place(layout: Layout, url: str | None = None) -> str | Path:
    """The file or the URL of a storage folder's registry.

    Args:
        layout: The storage folder.
        url: By default `$WONDER_RESOURCES_URL`; without one it is the folder's own file.

    Raises:
        StorageError: The folder's registry is known to live elsewhere.

    >>> from wonder_ray.storage.layout import Layout
    >>> resources_place(Layout("/data/wonder"), "postgresql://wonder@db/wonder")
    'postgresql://wonder@db/wonder'
    """
    url = url or os.environ.get(ENVIRONMENT_VARIABLE) or None
    if url is None or "://" not in url:
        if layout.resources_url.is_file():
            known = layout.resources_url.read_text(encoding="utf-8").strip()
            raise StorageError(
                f"the registry of {layout.root} lives in {known}: say so with {ENVIRONMENT_VARIABLE} (and the password, if it "
                f"needs one); if it is gone for good, remove {layout.resources_url.name}"
            )
        return layout.resources if url is None else Path(url)
    if not url.startswith("sqlite") and layout.resources.is_file():
        raise StorageError(
            f"{layout.root} has a registry of its own, {layout.resources.name}, which knows its runs: move that file away if "
            f"they may be forgotten, or leave {ENVIRONMENT_VARIABLE} out"
        )
    return url


def note_place(layout: Layout, place: str | Path) -> None:
    """Note in the folder that its registry lives at a URL (without the password)."""
    if isinstance(place, str) and not place.startswith("sqlite") and not layout.resources_url.is_file():
        layout.resources_url.write_text(without_password(place) + "\n", encoding="utf-8")


def without_password(url: str) -> str:
    """A URL as it may be shown and kept.

    >>> without_password("postgresql://me:x%40y@db:5432/wonder?sslmode=require&password=z")
    'postgresql://me@db:5432/wonder?sslmode=require'
    """
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in _HIDDEN]
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query=urlencode(kept)))
