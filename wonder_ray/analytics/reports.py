"""The ready reports: what each tells; how each is computed stands in `sql/reports/<name>.sql`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

REPORTS: Final = MappingProxyType(
    {
        "cost": "what runs have cost, by workspace, workflow and node",
        "queue": "time in queues against time at work, by workflow and node",
        "retries": "attempts that came to nothing, and what they have cost",
        "fanout": "how well the branches of each fan-out ran beside each other",
        "critical-path": "the chain of tokens that a run's duration consists of",
    }
)
"""Name -> what it tells."""
OF_ONE_RUN: Final = frozenset({"critical-path"})
"""Reports that are about one run: the latest, unless another is named."""
