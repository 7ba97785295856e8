"""The API over HTTP: a FastAPI application that keeps nothing, in front of the cluster's services.

>>> app = create_app(Backend(client), log)  # doctest: +SKIP
"""

from wonder_ray.http.app import create_app
from wonder_ray.http.backend import Backend
from wonder_ray.http.guard import Limits

__all__ = ["Backend", "Limits", "create_app"]
