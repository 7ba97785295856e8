"""The one Python entry: connect to a cluster (or start a local Ray), start runs, look at them, and tell them things.

>>> import wonder_ray as wonder  # doctest: +SKIP
>>> with wonder.connect() as client:  # doctest: +SKIP
...     run = client.start(flow, {"site": "example.org"}, key="crawl-2026-11-23")
...     run.result(timeout=600)
"""

from wonder_ray.client.clients import Client, connect, init_ray
from wonder_ray.client.runs import Run

__all__ = ["Client", "Run", "connect", "init_ray"]
