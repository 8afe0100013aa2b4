"""An address with another host and port."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

__all__ = ("moved",)


def moved(url: str, host: str, port: int) -> str:
    """The same address elsewhere; credentials, path and query stay as they are."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}:{port}"))
