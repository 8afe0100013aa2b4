"""One HTTP request, and the function that handles it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .response import AnyResponse

__all__ = ("Handler", "Outcome", "Request")


class Request:
    """One complete request; header names are lower case.

    Attributes:
        template: the path with its variable parts named, for metrics; set by the handler.
    """

    __slots__ = ("body", "headers", "keep_alive", "method", "target", "template", "version")

    def __init__(
        self, method: str, target: bytes, headers: dict[bytes, bytes], body: bytes = b""
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.keep_alive = True
        self.version = "1.1"
        self.template = "other"

    def get_header(self, name: bytes) -> str:
        """The field's value; empty when it is missing."""
        return self.headers.get(name, b"").decode("latin-1")


Outcome = AnyResponse | Awaitable[AnyResponse]
"""A response, or an awaitable of one from a handler that has to wait."""

Handler = Callable[[Request], Outcome]
