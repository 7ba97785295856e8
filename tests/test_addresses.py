"""An address where nothing listens is refused at once, under the name that the user gave it."""

from __future__ import annotations

import socket

import pytest

from wonder_ray.addresses import check_reachable
from wonder_ray.errors import WonderError


def test_an_address_where_something_listens_is_fine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_reachable(f"127.0.0.1:{server.getsockname()[1]}")
        check_reachable(f"ray://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999", "[::1]:1"])
def test_an_address_where_nothing_listens_is_named(address: str) -> None:
    with pytest.raises(WonderError) as refused:
        check_reachable(address, seconds=1)
    assert f"no Ray answers at {address} (" in str(refused.value)


@pytest.mark.parametrize("address", [None, "", "auto", "local", "ray_client", "unix:/tmp/x"])
def test_other_addresses_are_left_to_ray(address: str | None) -> None:
    check_reachable(address)
