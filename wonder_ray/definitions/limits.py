"""How large things in a definition may be: more is a mistake, or wants another form."""

from __future__ import annotations

from typing import Final

NODES_MAX: Final = 100_000
TRANSITIONS_MAX: Final = 1_000_000
SPAWN_MAX: Final = 1_000_000
"""Most tokens that one firing may make: a larger count is a mistake, or wants batching."""
MUTEXES_MAX: Final = 100
"""Of one node."""
SECONDS_MAX: Final = 10_000 * 366 * 86_400
"""Ten thousand years: more would overflow a 64-bit count of microseconds."""
SCHEMA_BYTES_MAX: Final = 256 * 1024
"""Of one JSON Schema: what checks values by it looks at all of it, again and again."""
REFERENCES_MAX: Final = 200_000
"""How many references of a schema one validation may follow: more than values need, fewer than a schema can demand (2**n)."""
