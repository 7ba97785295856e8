"""Requests to the servers of these tests."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import pytest

from tests.actions.servers import reply
from wonder_ray.actions.exchanges import Request, fetch
from wonder_ray.actions.policy import Policy
from wonder_ray.errors import ActionError

if TYPE_CHECKING:
    from tests.actions.servers import Server

HERE = Policy(networks=(ipaddress.ip_network("127.0.0.1/32"),))
JSON = reply(200, b'{"n": 1}', content_type="application/json")


def failure(*args: Any, **named: Any) -> ActionError:
    with pytest.raises(ActionError) as raised:
        fetch(*args, **named)
    return raised.value


def ask(server: Server, path: str = "/", **fields: Any) -> dict[str, Any]:
    return fetch(Request(url=server.url + path, **fields), HERE)
