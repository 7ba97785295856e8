"""A replay as a confined process makes it for whoever asks over HTTP: its planners are loaded there, and nowhere else.

>>> verdict_of(b"")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Final

import msgspec

from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.models import WorkflowDefinition
from wonder_ray.errors import WonderError
from wonder_ray.reading.reader import Reader
from wonder_ray.resources.records import RunRecord
from wonder_ray.values import decode, encode_trusted

ENTRY: Final = f"{__name__}:verdict_of"
MEMORY_BYTES: Final = 2 << 30
SECONDS_MAX: Final = 60.0


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """Which run, and what the registry knows of it."""

    storage: str
    run: RunRecord
    definition: bytes
    """JSON."""

    def packed(self) -> bytes:
        """As `verdict_of` takes it."""
        return msgspec.msgpack.encode(self)


def verdict_of(packed: bytes) -> bytes:
    """What `wonder replay --json` prints."""
    recorded = msgspec.msgpack.decode(packed, type=Recorded)
    graph = compile_graph(WorkflowDefinition.model_validate(decode(recorded.definition)))
    try:
        found = Reader(recorded.storage).replay_of(recorded.run, graph)
    except WonderError as error:  # a client need not know where the folder is
        raise type(error)(str(error).replace(recorded.storage, "the storage folder")) from None
    return encode_trusted({"equal": found.equal} | msgspec.to_builtins(found))
