"""A whole request: what is sent, where redirects lead, and what an answer becomes.

At each hop the URL is looked at anew, its host resolved once, and each of its addresses judged. To another origin (scheme, host
or port) go neither the caller's headers nor the token nor a body; and nothing follows from https to http.
"""

from __future__ import annotations

import base64
import re
import ssl
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urljoin

import msgspec

from wonder_ray.actions.policy import REFUSED, Policy, Target
from wonder_ray.actions.transport import Deadline, Reply, exchange, resolve
from wonder_ray.errors import ActionError, PayloadError
from wonder_ray.values import check_json, decode

if TYPE_CHECKING:
    from wonder_ray.actions.transport import Resolver

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BODY_BYTES_MAX: Final = 1024 * 1024
REPLY_BYTES_MAX: Final = 1024 * 1024
REDIRECTS_MAX: Final = 20
TIMEOUT_S_MAX: Final = 600.0
HEADERS_MAX: Final = 64
HEADER_CHARS_MAX: Final = 16 * 1024
UNREADABLE: Final = "HttpUnreadable"
RETRYABLE_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Another attempt may be answered otherwise."""
USER_AGENT: Final = "wonder-ray"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SEE_OTHER: Final = 303
_KEEP_METHOD: Final = frozenset({307, 308})
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What the request itself sets, or what would change how it is read."""
_HARMLESS: Final = frozenset({"Accept", "Accept-Encoding", "Connection", "User-Agent"})
"""What goes to another host, too."""
_NOT_KEPT: Final = frozenset({"set-cookie", "set-cookie2", "www-authenticate", "proxy-authenticate", "authentication-info"})
"""Of an answer: they are, or ask for, credentials, and a result stands in the history."""
_TEXTS: Final = re.compile(r"text/|application/(?:.*\+)?(?:xml|javascript|yaml|x-www-form-urlencoded|x-ndjson|graphql)\b")
_JSON: Final = re.compile(r"application/(?:[\w.\-]+\+)?json\b|text/json\b")
_CHARSET: Final = re.compile(r"charset=\"?([\w.\-]{1,40})")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; its texts are final."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: bytes | None = None
    content_type: str | None = None
    token: tuple[str, str] | None = None
    """A header with a secret in it."""
    idempotency_key: str | None = None
    timeout_s: float = 30.0
    redirects: int = 5
    bytes_max: int = REPLY_BYTES_MAX
    accept: frozenset[int] = frozenset()
    """What is no error beside 200 to 299."""


def fetch(
    request: Request,
    policy: Policy,
    *,
    resolver: Resolver = resolve,
    tls: ssl.SSLContext | None = None,
) -> dict[str, Any]:
    """Carry out a request.

    Args:
        request: What to ask for.
        policy: What may be asked for.
        resolver: Finds the addresses of a host.
        tls: Whom to trust; by default the system's certificate authorities.

    Returns:
        `status`, `url` (the last one), `headers` (names in small letters) and `body`: a JSON value, a text, null, or
        `{"base64": ...}`.

    Raises:
        ActionError: Refused, unreachable, untrusted, too late, too large, unreadable; or `Http404` and the like.
    """
    _check(request)
    deadline, trusted = Deadline(request.timeout_s), tls or ssl.create_default_context()
    ask = _Ask(policy.check(request.url), request.method, _headers(request), request.body)
    for hop in range(request.redirects + 1):
        target = ask.target
        addresses = [policy.judge(address) for address in resolver(target.host, target.port, deadline)]
        reply = exchange(
            target, addresses, ask.method, ask.headers, ask.body, deadline=deadline, bytes_max=request.bytes_max, tls=trusted
        )
        location = next((value for name, value in reply.headers if name.lower() == "location"), None)
        if reply.status not in _REDIRECTS - request.accept or location is None or request.redirects == 0:
            return _result(request, target, reply)
        if hop < request.redirects:
            ask = _redirected(ask, reply.status, _onward(policy, target, location))
    raise _refused(f"{ask.target.shown}: more than {request.redirects} redirects")


class _Ask(NamedTuple):
    """What one hop sends, and to whom."""

    target: Target
    method: str
    headers: dict[str, str]
    body: bytes | None


def _onward(policy: Policy, target: Target, location: str) -> Target:
    """Where a redirect leads, if that may be asked for."""
    try:
        url = urljoin(target.url, location.strip()).partition("#")[0]
    except ValueError as error:
        raise _refused(f"{target.shown} redirects to what is no URL: {error}") from None
    onward = policy.check(url)
    if target.scheme == "https" and onward.scheme == "http":
        raise _refused(f"{target.shown} redirects from https to http")
    return onward


def _redirected(ask: _Ask, status: int, onward: Target) -> _Ask:
    """What the next hop sends: to another origin nothing of the caller's."""
    _, method, headers, body = ask
    if status not in _KEEP_METHOD and (method == "POST" or (status == _SEE_OTHER and method != "HEAD")):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if name.lower() not in {"content-type", "idempotency-key"}}
    if onward.origin != ask.target.origin:
        if body is not None:
            raise _refused(f"{ask.target.shown} redirects a {method} with a body to {onward.shown}: ask that one, if it is meant")
        headers = {name: value for name, value in headers.items() if name in _HARMLESS}
    return _Ask(onward, method, headers, body)


def _check(request: Request) -> None:
    if request.method not in METHODS:
        raise _refused(f"method {request.method[:20]!r}: there are {', '.join(sorted(METHODS))}")
    if not 0 < request.timeout_s <= TIMEOUT_S_MAX:
        raise _refused(f"timeout_s is {request.timeout_s}: more than 0, and at most {TIMEOUT_S_MAX:g} seconds")
    if not 0 <= request.redirects <= REDIRECTS_MAX:
        raise _refused(f"redirects is {request.redirects}: 0 to {REDIRECTS_MAX}")
    if not 0 < request.bytes_max <= REPLY_BYTES_MAX:
        raise _refused(f"max_bytes is {request.bytes_max}: 1 to {REPLY_BYTES_MAX:,}, since results have a limit")
    if request.body is not None and len(request.body) > BODY_BYTES_MAX:
        raise _refused(f"the body has {len(request.body):,} bytes, more than {BODY_BYTES_MAX:,}")


def _headers(request: Request) -> dict[str, str]:
    """What is sent to the first host; an error never quotes a value, which may be a secret."""
    given = {"Accept": "*/*", "User-Agent": USER_AGENT}
    own = list(request.headers.items())
    if len(own) > HEADERS_MAX or sum(len(name) + len(str(value)) for name, value in own) > HEADER_CHARS_MAX:
        raise _refused(f"a request has at most {HEADERS_MAX} headers with {HEADER_CHARS_MAX:,} characters in all")
    for name, value in [*own, *filter(None, [request.token])]:
        if not _NAME.fullmatch(name) or not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise _refused(f"header {name[:80]!r}: it holds what no header holds (a line break, or a character beyond ASCII)")
        if name.lower() in _OURS:
            raise _refused(f"header {name!r} is set by the request itself: leave it out")
        known = next((other for other in given if other.lower() == name.lower()), None)
        if known is not None:
            del given[known]
        given["Accept" if name.lower() == "accept" else "User-Agent" if name.lower() == "user-agent" else name] = value.strip()
    if request.content_type is not None and not any(name.lower() == "content-type" for name in given):
        given["Content-Type"] = request.content_type
    if request.idempotency_key is not None and request.method in {"POST", "PUT", "PATCH", "DELETE"}:
        given["Idempotency-Key"] = request.idempotency_key
    return given | {"Accept-Encoding": "identity", "Connection": "close"}


def _result(request: Request, target: Target, reply: Reply) -> dict[str, Any]:
    if not 200 <= reply.status < 300 and reply.status not in request.accept:  # noqa: PLR2004 - what HTTP calls success
        retryable = reply.status in RETRYABLE_STATUS
        says = f": {_excerpt(reply.body)}" if reply.body else ""
        raise ActionError(f"Http{reply.status}", f"{request.method} {target.shown}: {reply.status}{says}", retryable=retryable)
    headers = {name.lower(): value for name, value in reply.headers if name.lower() not in _NOT_KEPT}
    if headers.get("content-encoding", "identity").lower() != "identity":
        encoding = headers["content-encoding"][:40]
        raise ActionError(UNREADABLE, f"{target.shown}: it answered in {encoding!r}, though not asked to", retryable=False)
    return {"status": reply.status, "url": target.url, "headers": _texts(headers), "body": _body(target, headers, reply.body)}


def _texts(headers: dict[str, str]) -> dict[str, str]:
    return {_printable(name): _printable(value) for name, value in headers.items()}


def _body(target: Target, headers: dict[str, str], body: bytes) -> Any:
    kind = headers.get("content-type", "").strip().lower()
    if not body:
        return None
    if _JSON.match(kind):
        try:
            value = decode(body)
            check_json(value)
        except PayloadError as error:
            raise ActionError(UNREADABLE, f"{target.shown}: the answer says it is JSON: {error}", retryable=False) from None
        return value
    if _TEXTS.match(kind):
        named = _CHARSET.search(kind)
        try:
            return body.decode(named[1] if named else "utf-8", "replace")
        except LookupError:
            return body.decode("utf-8", "replace")
    return {"base64": base64.b64encode(body).decode()}


def _excerpt(body: bytes) -> str:
    return _printable(body[:500].decode("utf-8", "replace"))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _refused(message: str) -> ActionError:
    return ActionError(REFUSED, message, retryable=False)
