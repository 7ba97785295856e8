"""An address where nothing listens is refused at once, under the name that the user gave it; and so is an old Ray."""

from __future__ import annotations

import socket

import pytest

from wonder_ray.addresses import check_ray_version, check_reachable
from wonder_ray.client import init_ray
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


@pytest.mark.parametrize("version", ["2.54.1", "2.9.3", "1.13.0"])
def test_an_old_ray_is_refused(version: str) -> None:
    with pytest.raises(WonderError, match=r"CVE-2026-41486.*pip install"):
        check_ray_version(version)


@pytest.mark.parametrize("version", ["2.55.0", "2.60.0", "3.0.0rc1"])
def test_a_safe_ray_is_fine(version: str) -> None:
    assert check_ray_version(version) == version
    assert check_ray_version()


def test_nobody_connects_with_an_old_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wonder_ray.addresses.metadata.version", lambda _: "2.54.1")
    with pytest.raises(WonderError, match=r"Ray 2\.54\.1 unpickles"):
        init_ray(None, {})
    with pytest.raises(WonderError, match=r"Ray 2\.54\.1 unpickles"):
        init_ray("127.0.0.1:6379", {})
