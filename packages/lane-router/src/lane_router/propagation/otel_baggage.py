"""The lane in OpenTelemetry's baggage, for applications that use OpenTelemetry."""

from __future__ import annotations

import sys
from contextvars import Token
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from opentelemetry.context import Context

__all__ = ("BaggageScope", "is_loaded", "read_value")

# `sys.modules` is looked into instead of importing: opentelemetry is an optional dependency and
# slow to import, and only an application that has imported its baggage module can have a lane in
# there. The import may also happen later than ours, so the answer is not cached.


def is_loaded() -> bool:
    """Whether the application has imported OpenTelemetry's baggage; this package never does first."""
    return "opentelemetry.baggage" in sys.modules


def read_value(key: str) -> str | None:
    """The baggage value in the current context; None without one or without OpenTelemetry."""
    # Called for every request, and nearly always the context is empty: an empty context (a falsy
    # dict) is cheaper to detect than a missing key.
    if "opentelemetry.baggage" not in sys.modules or not _get_current_context()():
        return None
    from opentelemetry import baggage

    value = baggage.get_baggage(key)
    return value if isinstance(value, str) else None


@cache
def _get_current_context() -> Callable[[], Context]:
    from opentelemetry import context

    return context.get_current


class BaggageScope:
    """While the block runs, OpenTelemetry's propagators write this lane; None = no lane.

    Opened around each send and never longer: OpenTelemetry passes baggage to every host, and a
    host outside of the mesh must not receive the lane.
    """

    __slots__ = ("_key", "_lane", "_token")

    def __init__(self, key: str | None, lane: str | None) -> None:
        self._key = key
        self._lane = lane
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        if self._key is None:
            return
        from opentelemetry import baggage, context

        if baggage.get_baggage(self._key) == self._lane:
            return
        scoped = (
            baggage.remove_baggage(self._key)
            if self._lane is None
            else baggage.set_baggage(self._key, self._lane)
        )
        self._token = context.attach(scoped)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            from opentelemetry import context

            context.detach(token)
