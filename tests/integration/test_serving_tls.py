"""`wonder serve --tls-cert --tls-key` on the session's Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import invoke
from tests.clusters import free_ports
from tests.remote.certificates import make_certificates
from wonder_ray.client import connect
from wonder_ray.definitions.builder import Workflow
from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from pathlib import Path

    from wonder_ray.client import Client


@pytest.mark.timeout(240)
def test_the_api_over_tls_is_for_those_who_trust_its_certificate(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port, folder = make_certificates(tmp_path), free_ports(1)[0], client.storage.root
    flow = Workflow("secure", output={"n": "state.n"})
    flow.compute("count", output={"state.n": "input.n"})
    client.register(flow)
    key = client.admin.create_api_key("secure", ("admin",)).token
    serve = ("serve", "--address", "auto", "--port", port, "--json", "--storage", folder, "--tls-cert", made.certificate)
    wrong = invoke(*serve, "--tls-key", made.authority)
    assert (wrong.code, "with its private key" in wrong.err) == (2, True)
    try:
        url = invoke(*serve, "--tls-key", made.key).json["url"]
        assert url == f"https://127.0.0.1:{port}"
        with pytest.raises(WonderError, match="is not trusted"):
            connect(url, api_key=key).runs()
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
        run = connect(url, api_key=key).start("secure", {"n": 3})
        assert run.result(timeout=120) == {"n": 3}
        assert [row.event_type for row in run.events(follow=True)][-1] == "workflow.completed"
        assert f"ok  {url}" in invoke("status").out
    finally:
        invoke("serve", "--stop", "--address", "auto")
