"""Ray's version and addresses, looked at before Ray is: its own client tries for a quarter of an hour and then names another."""

from __future__ import annotations

import re
import socket
from importlib import metadata
from typing import Final

from wonder_ray.errors import WonderError

CONNECT_SECONDS: Final = 5.0
RAY_MIN: Final = (2, 55)
RAY_MEND: Final = 'pip install -U "ray>=2.55"'
_HOST_AND_PORT: Final = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:]+\]|[^:/\[\]]+):(?P<port>\d{1,5})")


def check_reachable(address: str | None, *, seconds: float = CONNECT_SECONDS) -> None:
    """Raise a `WonderError` when nothing listens at `host:port` or `ray://host:port`; other addresses are Ray's to resolve.

    >>> check_reachable("auto")
    >>> check_reachable("127.0.0.1:1")
    Traceback (most recent call last):
    wonder_ray.errors.WonderError: no Ray answers at 127.0.0.1:1 (Connection refused); is it started?
    """
    found = _HOST_AND_PORT.fullmatch(address or "")
    if found is None:
        return
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=seconds).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        msg = f"no Ray answers at {address} ({why}); is it started?"
        raise WonderError(msg) from None


def check_ray_version(version: str | None = None) -> str:
    """The version of the Ray that is installed, or this one; a `WonderError` when it is too old to be safe.

    >>> check_ray_version("2.54.1")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    wonder_ray.errors.WonderError: Ray 2.54.1 unpickles what a Parquet file's metadata holds (CVE-2026-41486): pip install ...
    """
    found = version or metadata.version("ray")
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < RAY_MIN:
        msg = f"Ray {found} unpickles what a Parquet file's metadata holds (CVE-2026-41486): {RAY_MEND}"
        raise WonderError(msg)
    return found
