"""Over TLS: a server is believed only when its certificate is from an authority that is trusted here, and for its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.remote.certificates import make_certificates
from tests.remote.sockets import served
from wonder_ray.errors import WonderError
from wonder_ray.ids import new_run_id
from wonder_ray.remote import RemoteRun, connect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WaitUntil
    from tests.http.world import Api

TRUST = "SSL_CERT_FILE"


def test_a_private_authority_is_trusted_when_it_is_named(
    api: Api, wait_until: WaitUntil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificates(tmp_path)
    run_id = api.start()
    api.call("POST", f"/v1/runs/{run_id}/answers", {"gate": "ask", "answer": "yes"})
    api.call("POST", f"/v1/runs/{run_id}/signals", {"name": "paid"})
    with served(api.app, wait_until, ssl_certfile=str(made.certificate), ssl_keyfile=str(made.key)) as port:
        monkeypatch.setenv(TRUST, str(made.authority))
        run = connect(f"https://127.0.0.1:{port}", api_key=api.key).run(run_id)
        assert [row.event_type for row in run.events(follow=True)][-1] == "workflow.completed"


def test_a_server_that_cannot_be_believed_is_told_nothing(
    api: Api, wait_until: WaitUntil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificates(tmp_path)
    with served(api.app, wait_until, ssl_certfile=str(made.certificate), ssl_keyfile=str(made.key)) as port:
        client = connect(f"https://127.0.0.1:{port}", api_key=api.key)
        with pytest.raises(WonderError, match=r"is not trusted .* SSL_CERT_FILE"):
            client.start("approval", {"amount": 5})
        with pytest.raises(WonderError, match="is not trusted"):
            list(RemoteRun(client, new_run_id(1)).events(follow=True))
        monkeypatch.setenv(TRUST, str(made.authority))
        with pytest.raises(WonderError, match=r"is not trusted .*localhost"):
            connect(f"https://localhost:{port}", api_key=api.key).runs()
    assert api.resources.list_runs().runs == []
    assert api.logged("request_received") == []


def test_a_server_without_tls_is_told_from_one_that_is_away(api: Api, wait_until: WaitUntil) -> None:
    with (
        served(api.app, wait_until) as port,
        pytest.raises(WonderError, match=rf"speaks no TLS.*http://127.0.0.1:{port}"),
    ):
        connect(f"https://127.0.0.1:{port}", api_key=api.key).runs()
