"""The types of an ASGI application.

(https://asgi.readthedocs.io/en/latest/specs/main.html)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping

__all__ = ("App", "Message", "RawHeaders", "Receive", "Send")

Message = MutableMapping[str, object]
"""A scope or an event."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]
