"""Ids: made by the system or derived, never taken from raw input; and what a caller may name things.

Run ids are sortable by time and never reused. Token, group and fan-out ids are derived from the history that made them,
so that the same history always yields the same ids.

>>> derive_id("t", "root", "list->fetch", 3) == derive_id("t", "root", "list->fetch", 3)
True
>>> escape_path_segment("node.1")
'node%2E1'
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from wonder_ray.errors import DefinitionError, WonderError

NAMESPACE: Final = "wonder"
"""The Ray namespace that all named actors live in."""
RUN_ID_PATTERN = re.compile(r"run_[0-9a-f]{12}_[0-9a-f]{16}")
RUN_ID_PREFIX_PATTERN = re.compile(r"[0-9a-z_]{1,64}")
"""What the beginning of a run id can look like."""
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")


def new_run_id(now_us: int) -> str:
    """A new run id: `run_<milliseconds, hex>_<64 random bits, hex>`; sorts by its time."""
    return f"run_{now_us // 1000:012x}_{secrets.token_hex(8)}"


def child_run_id(parent_id: str, token_id: str, attempt: int, now_us: int) -> str:
    """The run id of an attempt's child run: derived, so that whoever repeats its start finds the same run.

    >>> child_run_id("run_0192f0c1a2b3_0123456789abcdef", "t_1", 1, 1_700_000_000_000_000)
    'run_018bcfe56800_0faab1e6f4c4bc82'
    """
    text = "\x1f".join((parent_id, token_id, str(attempt)))
    return f"run_{now_us // 1000:012x}_{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def check_run_id(run_id: str) -> str:
    """The id itself when it is one the system could have made (so it is safe in a file name), else an error."""
    if not RUN_ID_PATTERN.fullmatch(run_id):
        msg = f"{run_id[:80]!r} is not a run id (they look like run_0192f0c1a2b3_0123456789abcdef); see `wonder runs`"
        raise WonderError(msg)
    return run_id


def check_name(name: str, what: str) -> str:
    """The name itself when workflows, nodes, groups, workspaces, ... may bear it, else a `DefinitionError`."""
    if not NAME_PATTERN.fullmatch(name):
        msg = (
            f"{what} {name[:80]!r} is not a name: use 1 to 128 letters, digits, '_', '.' or '-', beginning with a letter or digit"
        )
        raise DefinitionError(msg)
    return name


def derive_id(kind: str, *parts: str | int) -> str:
    """An id that is a function of its parts: `<kind>_<80 bits, hex>`."""
    text = "\x1f".join(map(str, parts))
    return f"{kind}_{hashlib.blake2b(text.encode(), digest_size=10).hexdigest()}"


def escape_path_segment(node_id: str) -> str:
    """A node id as one segment of a dotted path."""
    return node_id.replace("%", "%25").replace(".", "%2E")
