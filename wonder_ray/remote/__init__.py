"""A client that reaches a cluster over its HTTP API, and needs no Ray: the same methods as the client on Ray.

>>> import wonder_ray as wonder  # doctest: +SKIP
>>> client = wonder.connect("http://127.0.0.1:8000", api_key="wonder_...")  # doctest: +SKIP
"""

from wonder_ray.remote.client import RemoteClient, connect, is_url
from wonder_ray.remote.connection import Connection
from wonder_ray.remote.runs import RemoteRun
from wonder_ray.remote.transport import Answer, LostError, Request, Streaming, Transport

__all__ = [
    "Answer",
    "Connection",
    "LostError",
    "RemoteClient",
    "RemoteRun",
    "Request",
    "Streaming",
    "Transport",
    "connect",
    "is_url",
]
