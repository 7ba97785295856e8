"""`wonder serve` on the session's Ray."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import invoke
from tests.clusters import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.client import Client


@pytest.fixture(scope="module")
def url(client: Client) -> Iterator[str]:
    """Where the API answers, from two replicas."""
    port, folder = free_ports(1)[0], client.storage.root
    made = invoke("serve", "--address", "auto", "--port", port, "--replicas", 2, "--json", "--storage", folder)
    assert made.code == 0, made.err
    assert (made.json["health"], made.json["replicas"], made.json["storage"]) == ("ok", 2, str(client.storage.root))
    yield made.json["url"]
    assert invoke("serve", "--stop", "--address", "auto", "--json").json == {"ended": ["http"]}
    assert invoke("serve", "--stop", "--address", "auto").out == "the API was not served\n"


def status_of(url: str, key: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_api_is_served_and_shown(client: Client, url: str) -> None:
    key = client.admin.create_api_key("served", ("runs:read",)).token
    assert [status_of(f"{url}{path}") for path in ("/health", "/ready", "/v1/runs")] == [200, 200, 401]
    assert [status_of(f"{url}{path}", key) for path in ("/v1/runs", "/v1/definitions")] == [200, 403]
    shown = invoke("status", "--json")
    assert (shown.code, shown.json["http"]) == (0, {"url": url, "health": "ok", "replicas": 2})
    assert f"http       ok  {url}, 2 replicas" in invoke("status").out


def test_it_cannot_be_served_at_two_places(client: Client, url: str) -> None:
    refused = invoke("serve", "--address", "auto", "--port", free_ports(1)[0], "--storage", client.storage.root)
    assert refused.code == 2
    assert f"listens at {url} on this cluster already" in refused.err
    assert invoke("serve", "--tls-cert", "x.pem").code == 2
