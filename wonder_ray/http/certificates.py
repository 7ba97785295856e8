"""Whether a server could use a TLS certificate: looked at before one is started, since Ray Serve would not say what is wrong."""

from __future__ import annotations

import ssl


def why_unusable(certificate: str, private_key: str) -> str | None:
    """What is wrong with two PEM files of this machine; None when nothing is.

    >>> why_unusable("/nowhere/cert.pem", "/nowhere/key.pem")
    "cannot read '/nowhere/cert.pem': No such file or directory"
    """
    for path in (certificate, private_key):
        try:
            with open(path, "rb"):  # noqa: PTH123 - a path as it was given
                pass
        except OSError as error:
            return f"cannot read {path!r}: {error.strerror}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, password=_nobody)
    except ssl.SSLError as error:
        return f"{certificate!r} and {private_key!r} are no certificate (PEM) with its private key: {error.reason or error}"
    except _AskedError:
        return f"{private_key!r} is encrypted: the server cannot ask for its password; give it an unencrypted key"
    return None


class _AskedError(Exception):
    """OpenSSL wants a password."""


def _nobody() -> str:
    raise _AskedError
