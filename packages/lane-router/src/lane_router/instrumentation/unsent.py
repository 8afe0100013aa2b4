"""Telling a host that is not there from one that is and fails."""

from __future__ import annotations

import sys

__all__ = ("is_unsent",)


def is_unsent(error: BaseException) -> bool:
    """Whether a failed connection says that nobody is there; a failed TLS handshake does not."""
    ssl = sys.modules.get("ssl")
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return True
        if ssl is not None and isinstance(seen, ssl.SSLError):
            return False
        seen = seen.__cause__ or seen.__context__
    return True
