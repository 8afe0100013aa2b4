"""The lane in OpenTelemetry's baggage, where an application uses that."""

from __future__ import annotations

import sys
from contextvars import Token
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from opentelemetry.context import Context

__all__ = ("BaggageLane", "loaded", "read")


def loaded() -> bool:
    """Whether anybody imported opentelemetry's baggage; we never do on our own."""
    return "opentelemetry.baggage" in sys.modules


def read(key: str) -> str | None:
    """The value in the present context; None when there is none or no OpenTelemetry."""
    # Asked at every request, and nearly always there is nothing: looked at before it is read.
    if "opentelemetry.baggage" not in sys.modules or not _present()():
        return None
    from opentelemetry import baggage

    value = baggage.get_baggage(key)
    return value if isinstance(value, str) else None


@cache
def _present() -> Callable[[], Context]:
    from opentelemetry import context

    return context.get_current


class BaggageLane:
    """While the block runs, propagators write this lane; None = none at all.

    Around each send, and never longer: OpenTelemetry hands baggage to every host, and a stranger
    must not hear the lane.
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

        there = baggage.get_baggage(self._key)
        if there == self._lane:
            return
        changed = (
            baggage.remove_baggage(self._key)
            if self._lane is None
            else baggage.set_baggage(self._key, self._lane)
        )
        self._token = context.attach(changed)

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
