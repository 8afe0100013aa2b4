"""What the HTTP clients share: whether a failed hop sent anything, and a URL on another host."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit, urlunsplit

__all__ = ("is_unsent", "replace_host")

_MOST_CAUSES = 10


def is_unsent(error: BaseException) -> bool:
    """Whether a connection error means an absent host, so that the request may be sent elsewhere.

    A failed TLS handshake does not: the host is there. Only for errors that the library raises
    while it connects.
    """
    # From sys.modules: while ssl was not imported no error can be one of its, and its import is slow.
    ssl = sys.modules.get("ssl")
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):  # bounded: a chain of causes can be a circle
        if cause is None:
            return True
        if ssl is not None and isinstance(cause, ssl.SSLError):
            return False
        cause = cause.__cause__ or cause.__context__
    return True


def replace_host(url: str, host: str, port: int) -> str:
    """The URL with another host and port; credentials, path and query stay as they are."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}:{port}"))
