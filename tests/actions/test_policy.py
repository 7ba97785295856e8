"""Which URLs and addresses an HTTP action takes."""

from __future__ import annotations

import pytest

from wonder_ray.actions.policy import REFUSED, Policy, parse
from wonder_ray.errors import ActionError


def words(text: str) -> list[str]:
    return text.split()


NOT_PUBLIC = words("""
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.0.1 169.254.169.254
    169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255
    198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
    :: ::1 ::2 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::7f00:1
    64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1:: 2001:2::1 2001:db8::1 2002:7f00:1::
    2002:a00:1::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff05::1:3
""")
PUBLIC = words("""
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 169.253.255.255 172.15.255.255
    172.32.0.1 192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255 2606:4700:4700::1111 2a00::1 64:ff9b::8.8.8.8
    ::ffff:8.8.8.8
""")
NO_URL = [
    "",
    " ",
    "x" * 9000,
    "example.com",
    "//example.com/",
    "/etc/passwd",
    "file:///etc/passwd",
    "ftp://example.com/",
    "gopher://127.0.0.1:6379/_x",
    "dict://127.0.0.1:11211/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "jar:http://example.com!/",
    "ldap://example.com",
    "unix:///var/run/docker.sock",
    "http:example.com",
    "http:/example.com",
    "http://",
    "http:///path",
    "http://:80/",
    "http://example.com:0/",
    "http://example.com:/",
    "http://example.com:65536/",
    "http://example.com:80x/",
    "http://example.com:-1/",
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://example.com@127.0.0.1/",
    "http://example.com:80@127.0.0.1/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com\\.evil.example/",
    "http://example.com/#fragment",
    "http://example.com#@127.0.0.1/",
    "http://exa mple.com/",
    "http://example.com/a b",
    "http://example.com/\r\nHost: evil",
    "http://example.com/\n",
    "\thttp://example.com/",
    "http://example.com/\0",
    "http://example.com/é",
    "http://ex\u00e4mple.com/",
    "http://\u2460\u2461\u2466.0.0.1/",
    "http://127\u30020\u30020\u30021/",
    "http://local\u00adhost/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://1.2.3.4.5/",
    "http://1.2.3.256/",
    "http://01.2.3.4/",
    "http://a.b.0x10/",
    "http://127.0.0.1./",
    "http://[::1/",
    "http://::1/",
    "http://[]/",
    "http://[::1%25lo]/",
    "http://[::g]/",
    "http://[127.0.0.1]/",
    "http://[v1.x]/",
    "http://-a.example/",
    "http://a-.example/",
    "http://a..example/",
    "http://.example/",
    "http://" + "a" * 64 + ".example/",
    "http://" + "a." * 127 + "aa/",
    "http://exam%70le.com/",
    "http://example.com%00.evil/",
    "http://<script>/",
    "http://example.com/`id`",
    "http://example.com/{x}",
    'http://example.com/"',
    "http://$(id)/",
    "http://*.example.com/",
    "http://a,b/",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(ActionError, match="no public address") as refused:
        Policy().judge(address)
    assert (refused.value.type, refused.value.retryable) == (REFUSED, False)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_taken(address: str) -> None:
    assert Policy().judge(address) == address


@pytest.mark.parametrize("url", NO_URL)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(ActionError) as refused:
        parse(url)
    assert (refused.value.type, refused.value.retryable) == (REFUSED, False)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://example.com", ("https", "example.com", 443, "/")),
        ("HTTP://EXAMPLE.com:8080/a?b=c", ("http", "example.com", 8080, "/a?b=c")),
        ("https://xn--bcher-kva.example./%C3%A9", ("https", "xn--bcher-kva.example.", 443, "/%C3%A9")),
        ("http://127.0.0.1/?q", ("http", "127.0.0.1", 80, "/?q")),
        ("https://[2606:4700:0:0::1111]:8443/", ("https", "2606:4700::1111", 8443, "/")),
        ("http://my_service.internal/", ("http", "my_service.internal", 80, "/")),
    ],
)
def test_a_plain_url_is_taken_apart(url: str, parts: tuple[object, ...]) -> None:
    assert parse(url) == parts
    assert parse(parse(url).url) == parse(url)


def test_networks_open_what_they_name_and_no_more() -> None:
    policy = Policy.from_environment({"WONDER_HTTP_NETWORKS": "10.1.0.0/16, fd00::/8,127.0.0.1"})
    for address in ("10.1.2.3", "fd00::1", "127.0.0.1", "::ffff:10.1.2.3", "8.8.8.8"):
        policy.judge(address)
    for address in ("10.2.0.1", "127.0.0.2", "fe80::1", "192.168.0.1"):
        with pytest.raises(ActionError):
            policy.judge(address)


def test_a_metadata_address_is_opened_only_by_its_own_entry() -> None:
    for networks in ("169.254.0.0/16", "0.0.0.0/0", "::/0", "169.254.169.254/31"):
        with pytest.raises(ActionError, match="no public address"):
            Policy.from_environment({"WONDER_HTTP_NETWORKS": networks}).judge("169.254.169.254")
    assert Policy.from_environment({"WONDER_HTTP_NETWORKS": "169.254.169.254/32"}).judge("169.254.169.254")


def test_hosts_and_schemes_narrow_what_may_be_asked_for() -> None:
    policy = Policy.from_environment({"WONDER_HTTP_HOSTS": "api.example.com,*.Example.org", "WONDER_HTTP_SCHEMES": "https"})
    for url in ("https://api.example.com/", "https://API.example.com./", "https://a.b.example.org/"):
        policy.check(url)
    for url in (
        "https://example.com/",
        "https://x.api.example.com/",
        "https://example.org/",
        "https://evilexample.org/",
        "https://api.example.com.evil.example/",
        "http://api.example.com/",
        "https://1.1.1.1/",
    ):
        with pytest.raises(ActionError):
            policy.check(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WONDER_HTTP_NETWORKS", "10.0.0.1/8"),
        ("WONDER_HTTP_NETWORKS", "everything"),
        ("WONDER_HTTP_HOSTS", "https://example.com"),
        ("WONDER_HTTP_HOSTS", "example.com:80"),
        ("WONDER_HTTP_HOSTS", "*"),
        ("WONDER_HTTP_SCHEMES", "https,file"),
        ("WONDER_HTTP_HOST", "example.com"),
    ],
)
def test_a_setting_that_cannot_be_read_refuses_all(name: str, value: str) -> None:
    with pytest.raises(ActionError, match=name) as refused:
        Policy.from_environment({name: value})
    assert not refused.value.retryable


def test_a_url_is_shown_without_its_query() -> None:
    assert parse("https://example.com/a?token=x").shown == "https://example.com/a"
