"""Where redirects and names lead: each hop is looked at anew, and nothing secret goes along to others."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.actions.asking import HERE, JSON, ask, failure
from tests.actions.servers import Names, answering, no_resolver, reply, serving
from wonder_ray.actions.exchanges import Request, fetch
from wonder_ray.actions.policy import REFUSED, Policy
from wonder_ray.actions.transport import UNTRUSTED

if TYPE_CHECKING:
    from pathlib import Path

PLACES = [
    "http://127.0.0.2:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.2]:{port}/",
    "http://localhost.test:{port}/",
    "http://2130706434/",
    "http://0x7f.2/",
    "http://0177.0.0.2/",
    "http://127.2/",
    "http://0.0.0.0:{port}/",
    "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://user:password@127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/",
    "//169.254.169.254/",
    "http://[broken/",
    "http://127.0.0.1\\@169.254.169.254/",
]


def test_a_redirect_is_followed_and_a_post_becomes_a_get() -> None:
    with serving(answering(reply(302, location="/b"), reply(303, location="c?d"), JSON)) as server:
        found = ask(server, "/a/", method="POST", body=b"x", content_type="text/plain", headers={"X-Mine": "yes"})
        assert found["url"] == f"{server.url}/c?d"
        assert [(each.method, each.path, each.body) for each in server.asked] == [
            ("POST", "/a/", b"x"),
            ("GET", "/b", b""),
            ("GET", "/c?d", b""),
        ]
        assert [each.headers.get("x-mine") for each in server.asked] == ["yes"] * 3
        assert "content-type" not in server.asked[1].headers


def test_a_redirect_that_keeps_the_method_keeps_the_body_on_the_same_host() -> None:
    with serving(answering(reply(307, location="/b"), JSON)) as server:
        ask(server, method="POST", body=b"x", idempotency_key="r/t")
        assert [(each.method, each.body) for each in server.asked] == [("POST", b"x")] * 2
        assert [each.headers["idempotency-key"] for each in server.asked] == ["r/t"] * 2


def test_redirects_have_an_end() -> None:
    with serving(answering(reply(302, location="/again"))) as server:
        error = failure(Request(url=server.url, redirects=3), HERE)
        assert (error.type, error.retryable, len(server.asked)) == (REFUSED, False, 4)
        assert failure(Request(url=server.url, redirects=0), HERE).type == "Http302"
        assert ask(server, redirects=0, accept=frozenset({302}))["headers"]["location"] == "/again"


@pytest.mark.parametrize("place", PLACES)
def test_a_redirect_is_looked_at_like_the_first_url(place: str) -> None:
    names = Names({"localhost.test": [["127.0.0.2"]]})
    with serving(answering(JSON)) as other:
        with serving(answering(reply(302, location=place.format(port=other.port)))) as server:
            error = failure(Request(url=server.url), HERE, resolver=names)
        assert (error.type, error.retryable) == (REFUSED, False)
        assert other.asked == []


def test_nothing_of_the_callers_goes_to_another_host() -> None:
    with serving(answering(JSON)) as other, serving(answering(reply(302, location=f"{other.url}/x"))) as server:
        headers = {"Cookie": "id=7", "X-Api-Key": "k", "Authorization": "Basic x", "Accept": "text/plain", "User-Agent": "me"}
        ask(server, headers=headers, token=("X-Token", "secret"))
        assert server.asked[0].headers["x-token"] == "secret"
        assert other.asked[0].headers == {
            "host": f"127.0.0.1:{other.port}",
            "accept": "text/plain",
            "accept-encoding": "identity",
            "connection": "close",
            "user-agent": "me",
        }


def test_a_body_does_not_go_to_another_host() -> None:
    with serving(answering(JSON)) as other, serving(answering(reply(307, location=f"{other.url}/x"))) as server:
        error = failure(Request(url=server.url, method="POST", body=b"password"), HERE)
        assert (error.type, error.retryable, other.asked) == (REFUSED, False, [])


def test_a_name_is_resolved_once_and_what_was_judged_is_connected_to() -> None:
    with serving(answering(JSON)) as server:
        names = Names({"rebinding.test": [["127.0.0.1"], ["169.254.169.254"], ["10.0.0.1"]]})
        found = fetch(Request(url=f"http://rebinding.test:{server.port}/"), HERE, resolver=names)
        assert (found["body"], names.asked) == ({"n": 1}, ["rebinding.test"])
        assert server.asked[0].headers["host"] == f"rebinding.test:{server.port}"


def test_connecting_asks_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answering(JSON)) as server:
        monkeypatch.setattr("socket.getaddrinfo", no_resolver)
        monkeypatch.setattr("socket.gethostbyname", no_resolver)
        names = Names({"some.test": [["127.0.0.1"]]})
        assert fetch(Request(url=f"http://some.test:{server.port}/"), HERE, resolver=names)["status"] == 200
        assert ask(server)["status"] == 200


def test_a_name_that_is_bound_anew_before_a_redirect_is_judged_anew() -> None:
    with serving(answering(reply(302, location="/b"))) as server:
        names = Names({"rebinding.test": [["127.0.0.1"], ["127.0.0.2"]]})
        error = failure(Request(url=f"http://rebinding.test:{server.port}/"), HERE, resolver=names)
        assert (error.type, len(server.asked)) == (REFUSED, 1)


def test_one_bad_address_among_good_ones_refuses_a_name() -> None:
    names = Names({"mixed.test": [["127.0.0.1", "169.254.169.254"]]})
    assert failure(Request(url="http://mixed.test/"), HERE, resolver=names).type == REFUSED


def test_the_next_address_is_tried_when_one_takes_no_connection() -> None:
    with serving(answering(JSON)) as server:
        policy = Policy(networks=(ipaddress.ip_network("127.0.0.0/8"),))
        names = Names({"two.test": [["127.0.0.3", "127.0.0.1"]]})
        assert fetch(Request(url=f"http://two.test:{server.port}/"), policy, resolver=names)["status"] == 200


class Tls:
    """A certificate for `good.test`, and those who trust it."""

    def __init__(self, folder: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "good.test")])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("good.test")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        certificate, private = folder / "certificate.pem", folder / "key.pem"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(certificate, private)
        self.trusting = ssl.create_default_context(cafile=str(certificate))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("tls"))


def test_a_certificate_is_for_the_name_in_the_url_not_for_the_address(tls: Tls) -> None:
    names = Names({"good.test": [["127.0.0.1"]], "evil.test": [["127.0.0.1"]]})
    with serving(answering(JSON), tls.server) as server:
        good = Request(url=f"https://good.test:{server.port}/")
        assert fetch(good, HERE, resolver=names, tls=tls.trusting)["body"] == {"n": 1}
        evil = Request(url=f"https://evil.test:{server.port}/")
        for request, trusted in ((evil, tls.trusting), (good, None)):
            error = failure(request, HERE, resolver=names, tls=trusted)
            assert (error.type, error.retryable) == (UNTRUSTED, False)
        assert len(server.asked) == 1


def test_a_redirect_does_not_leave_tls(tls: Tls) -> None:
    names = Names({"good.test": [["127.0.0.1"]]})
    with serving(answering(JSON)) as plain, serving(answering(reply(302, location=plain.url)), tls.server) as server:
        error = failure(Request(url=f"https://good.test:{server.port}/"), HERE, resolver=names, tls=tls.trusting)
        assert (error.type, error.retryable, plain.asked) == (REFUSED, False, [])
        assert "from https to http" in str(error)
