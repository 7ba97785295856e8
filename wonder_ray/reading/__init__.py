"""Looking at runs with nothing but the storage folder: no Ray, no running service, and none is ever started.

A live cluster may write to the folder at the same time. What is told of a run is what it has committed: from its own file
where no coordinator holds it, else as far as the event service has acknowledged.

>>> reader = Reader("storage")  # doctest: +SKIP
>>> reader.show("latest")["status"]  # doctest: +SKIP
'completed'
"""

from wonder_ray.reading.reader import Reader, StoredEvents, open_storage
from wonder_ray.reading.standing import node_counts

__all__ = ["Reader", "StoredEvents", "node_counts", "open_storage"]
