"""Ready actions, for nodes that need no code of their own.

>>> import wonder_ray as wonder
>>> from wonder_ray.actions import http_request
>>> flow = wonder.Workflow("weather", output={"now": "state.now"})
>>> url, key = "'https://api.example.com/v1/{{ city }}'", wonder.Secret("weather")
>>> asked = {"url": url, "values": "{'city': input.city}", "token": key}
>>> _ = flow.node("ask", http_request, input=asked, output={"state.now": "result.body"})
>>> flow.definition().nodes[0].action
'wonder_ray.actions:http_request'
"""

from __future__ import annotations

from typing import Any

from wonder_ray.actions.exchanges import REPLY_BYTES_MAX, Request, fetch
from wonder_ray.actions.policy import REFUSED, Policy
from wonder_ray.actions.templates import render_header, render_json, render_text, render_url
from wonder_ray.errors import ActionError, WonderError
from wonder_ray.executor.context import current
from wonder_ray.executor.registry import action
from wonder_ray.executor.secrets import Secret  # noqa: TC001 - read at run time: it is how a parameter asks for a secret
from wonder_ray.values import encode

__all__ = ["http_request"]


@action
def http_request(  # noqa: PLR0913 - what a request has
    url: str,
    method: str = "GET",
    *,
    headers: dict[str, str] | None = None,
    json: Any = None,
    body: str | None = None,
    values: dict[str, Any] | None = None,
    token: Secret | None = None,
    token_header: str = "Authorization",  # noqa: S107 - the name of a header
    token_prefix: str = "Bearer ",  # noqa: S107 - not a password either
    timeout_s: float = 30.0,
    redirects: int = 5,
    max_bytes: int = REPLY_BYTES_MAX,
    accept_status: list[int] | None = None,
) -> dict[str, Any]:
    """Send an HTTP request; only public addresses are reached, unless `WONDER_HTTP_NETWORKS` on the executors allows others.

    POST, PUT, PATCH and DELETE carry the token's idempotency key as `Idempotency-Key`, one and the same for all attempts. See
    `wonder_ray.actions.policy` for what may be asked for, and `wonder_ray.actions.templates` for templates.

    Args:
        url: `http://...` or `https://...`, percent-encoded, without a password.
        method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
        headers: Those of your own; none goes to another host when there is a redirect.
        json: A JSON value to send.
        body: A text to send (UTF-8; `text/plain` unless a header says otherwise).
        values: With these, `url`, the headers, `json` and `body` are templates: `{{ expression }}` over these names. Without,
            they are sent as they are.
        token: A secret that is sent as `Authorization: Bearer ...`, or as the next two arguments say.
        token_header: The header of the token.
        token_prefix: What stands before the token.
        timeout_s: Seconds for all of it, redirects included; at most 600.
        redirects: How many are followed; with 0 a redirect is the answer.
        max_bytes: An answer with more is refused; at most 1 MiB.
        accept_status: Which of 300 to 599 are answers, and no errors.

    Returns:
        `status`, `url` (where it ended), `headers` (names in small letters, without cookies) and `body`: the JSON value of a
        JSON answer, the text of a text, `{"base64": ...}` of others, null of none.

    Raises:
        ActionError: Its type is for `on="failed[...]"`. Not to be tried again: `HttpRefused` (what may not be asked for),
            `HttpUntrusted` (the certificate), `HttpTooLarge`, `HttpUnreadable` (no JSON where it says so, or compressed),
            and `Http404` and the like. Worth another attempt: `HttpTimeout`, `HttpUnreachable`, and `Http408`, `425`, `429`,
            `500`, `502`, `503`, `504`.
        ExpressionError: A template cannot be filled.
        SecretError: There is no such secret.
    """
    sent, content_type = _content(json, body, values)
    filled = {name: text if values is None else render_header(text, values) for name, text in (headers or {}).items()}
    request = Request(
        url=url if values is None else render_url(url, values),
        method=method.upper(),
        headers=filled,
        body=sent,
        content_type=content_type,
        token=None if token is None else (token_header, token_prefix + token.reveal()),
        idempotency_key=_idempotency_key(),
        timeout_s=timeout_s,
        redirects=redirects,
        bytes_max=max_bytes,
        accept=frozenset(accept_status or ()),
    )
    return fetch(request, Policy.from_environment())


def _content(json: Any, body: str | None, values: dict[str, Any] | None) -> tuple[bytes | None, str | None]:
    """What is sent, and its type."""
    if json is not None and body is not None:
        raise ActionError(REFUSED, "a request has `json` or `body`, not both", retryable=False)
    if json is not None:
        return encode(json if values is None else render_json(json, values)), "application/json"
    if body is not None:
        return (body if values is None else render_text(body, values)).encode(), "text/plain; charset=utf-8"
    return None, None


def _idempotency_key() -> str | None:
    try:
        return current().idempotency_key
    except WonderError:  # called as a plain function
        return None
