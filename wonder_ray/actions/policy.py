"""Where an HTTP action may go: which URLs are taken, and which addresses may be connected to.

A workflow's data can hold any URL, and the machines of a cluster reach what its users must not: services on loopback, databases
of the private network, the metadata service that hands out the cloud account's credentials. So every URL is looked at when it is
given and again at each redirect, its host is resolved once, every address of it is judged, and exactly a judged address is
connected to: a name that resolves to something else a moment later (DNS rebinding) changes nothing.

What is refused by default is opened by whoever runs the executors, in their environment, and by nobody else:

| variable | means |
|---|---|
| `WONDER_HTTP_HOSTS` | only these hosts: `api.example.com,*.example.org` |
| `WONDER_HTTP_NETWORKS` | addresses that are allowed though they are not public: `10.1.0.0/16,127.0.0.1/32` |
| `WONDER_HTTP_SCHEMES` | `https`, or `http,https` (the default) |

A metadata address is allowed only by an entry for exactly this address.

>>> Policy().check("https://example.com/a").host
'example.com'
>>> Policy().judge("127.0.0.1")
Traceback (most recent call last):
wonder_ray.errors.ActionError: 127.0.0.1 is no public address: WONDER_HTTP_NETWORKS allows others, where executors run
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec

from wonder_ray.errors import ActionError

if TYPE_CHECKING:
    from collections.abc import Mapping

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

REFUSED: Final = "HttpRefused"
"""The type of the error when something may not be asked for."""
PREFIX: Final = "WONDER_HTTP_"
URL_CHARS_MAX: Final = 8192
_PORTS: Final = {"http": 80, "https": 443}
_URL: Final = re.compile(r"[!#-\[\]-_a-z~]+")
"""Printable ASCII without space, quotation mark, backslash, backtick, braces, bar and caret."""
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_\-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*")
_HOST_CHARS_MAX: Final = 253
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"))
)
"""Of several clouds; the last is a public address that only a machine within that cloud reaches."""
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SPECIAL: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # this network, and on Linux this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",
            "2001::/23",  # Teredo and others, which lead into IPv4
            "2001:db8::/32",
            "2002::/16",  # 6to4: the same
            "3fff::/20",
        ),
    )
)
"""The special-purpose registries of IANA, written out: what Python calls private changes with its version."""


class Target(NamedTuple):
    """A URL that was looked at, in its parts."""

    scheme: str
    host: str
    """In small letters; an IPv6 address without its brackets."""
    port: int
    path: str
    """With the query."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials are for."""
        return self.scheme, self.host, self.port

    @property
    def url(self) -> str:
        """The URL again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def shown(self) -> str:
        """The URL without its query, which may hold what no log should."""
        return self.url.partition("?")[0][:200]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked for.

    Attributes:
        hosts: Only these; `*.` in front stands for anything below. Empty: all.
        networks: Allowed beside the public addresses.
        schemes: The ways to ask.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    schemes: tuple[str, ...] = ("http", "https")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Policy:
        """What the environment of this process says; an `ActionError` names a variable that cannot be read."""
        given = os.environ if environment is None else environment
        found = {
            name.removeprefix(PREFIX): [part.strip().lower() for part in text.split(",") if part.strip()]
            for name, text in given.items()
            if name.startswith(PREFIX)
        }
        if unknown := sorted(found.keys() - {"HOSTS", "NETWORKS", "SCHEMES"}):
            raise _refused(f"{PREFIX}{unknown[0]} sets nothing; there are {PREFIX}HOSTS, {PREFIX}NETWORKS, {PREFIX}SCHEMES")
        schemes = tuple(found.get("SCHEMES") or _PORTS)
        if foreign := [scheme for scheme in schemes if scheme not in _PORTS]:
            raise _refused(f"{PREFIX}SCHEMES names {foreign[0]!r}: there are http and https")
        return cls(
            hosts=tuple(_host_pattern(text) for text in found.get("HOSTS", ())),
            networks=tuple(_network(text) for text in found.get("NETWORKS", ())),
            schemes=schemes,
        )

    def check(self, url: str) -> Target:
        """The parts of a URL that may be asked for, as far as its text tells; an `ActionError` else."""
        target = parse(url)
        if target.scheme not in self.schemes:
            raise _refused(f"{target.shown}: only {' and '.join(self.schemes)} may be asked ({PREFIX}SCHEMES)")
        if self.hosts and not any(_matches(target.host, pattern) for pattern in self.hosts):
            raise _refused(f"{target.shown}: {target.host!r} is none of the hosts that {PREFIX}HOSTS allows where this task runs")
        return target

    def judge(self, text: str) -> str:
        """The address itself when it may be connected to; an `ActionError` else."""
        address = _meant(ipaddress.ip_address(text.partition("%")[0]))
        if not self._allows(address):
            raise _refused(f"{text} is no public address: {PREFIX}NETWORKS allows others, where executors run")
        return text

    def _allows(self, address: Address) -> bool:
        named = [network for network in self.networks if address.version == network.version and address in network]
        if address in _METADATA:
            return any(network.num_addresses == 1 for network in named)
        return bool(named) or _is_public(address)


def parse(url: str) -> Target:
    """The parts of a URL: strictly, so that whoever reads it later cannot read it differently."""
    if not isinstance(url, str) or not 0 < len(url) <= URL_CHARS_MAX:
        raise _refused(f"a URL is a text of 1 to {URL_CHARS_MAX:,} characters")
    if not _URL.fullmatch(url):
        raise _refused("the URL holds a character that no URL holds: percent-encode it (in a template, `{{ ... }}` does that)")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _refused(f"the URL cannot be read: {error}") from None
    if parts.scheme not in _PORTS:
        raise _refused(f"a URL begins with http:// or https://, not with {parts.scheme[:20]!r}")
    if "@" in parts.netloc:
        raise _refused(f"the URL to {host[:80]!r} holds a name or password: pass it as `token`, a secret, instead")
    if "#" in url:
        raise _refused(f"the URL to {host[:80]!r} has a fragment, which is never sent: leave `#...` out")
    if port == 0 or parts.netloc.endswith(":"):
        raise _refused(f"the URL to {host[:80]!r} has a port that cannot be")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, _checked_host(host, is_bracketed="[" in parts.netloc), port or _PORTS[parts.scheme], path)


def _checked_host(host: str, *, is_bracketed: bool) -> str:
    if is_bracketed:
        try:
            return str(ipaddress.IPv6Address(host.replace("%", "!")))  # no zone: it means something on one machine only
        except ValueError:
            raise _refused(f"[{host[:80]}] is no IPv6 address") from None
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers read 2130706433, 0x7f.1 and 0177.0.0.1 as 127.0.0.1: an address is written in one way here.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise _refused(f"{host[:80]!r} is no address: it is written as four decimal numbers") from None
    if len(host) > _HOST_CHARS_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise _refused(
            f"{host[:80]!r} is no host name: it has letters, digits, '-' and '.'; others are written in Punycode (xn--)"
        )
    return host


def _meant(address: Address) -> Address:
    """The IPv4 address that a packet to an IPv6 address ends at, where it is one that is made for that."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    return isinstance(address, ipaddress.IPv4Address) or address in _PUBLIC_V6


def _matches(host: str, pattern: str) -> bool:
    host = host.removesuffix(".")
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _host_pattern(text: str) -> str:
    below = text.removeprefix("*.")
    if ":" in below:
        try:
            return str(ipaddress.IPv6Address(below.strip("[]")))
        except ValueError:
            raise _refused(f"{PREFIX}HOSTS names {text!r}: name a host without a port") from None
    if not all(map(_LABEL.fullmatch, below.split("."))):
        raise _refused(f"{PREFIX}HOSTS names {text!r}: name hosts as `api.example.com` or `*.example.com`")
    return text


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise _refused(f"{PREFIX}NETWORKS names {text!r}, which is no network such as 10.1.0.0/16: {error}") from None


def _refused(message: str) -> ActionError:
    return ActionError(REFUSED, message, retryable=False)
