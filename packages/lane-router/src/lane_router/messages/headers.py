"""The headers of a message: written once by the producer, and the only authority on consume."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

from lane_router.context.lane_context import LaneScope, current_lane, lane_scope
from lane_router.propagation.carriers import Carriers, Reading

__all__ = ("CARRIERS", "lane_of", "message_scope", "with_lane")

logger = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")

CARRIERS = Carriers()


def with_lane(
    headers: Mapping[str, ValueT] | None = None, *, carriers: Carriers = CARRIERS
) -> dict[str, ValueT | str]:
    """The headers and the present lane; what the user put there stays as it is.

    Outside of every scope the lane is the one of the process (the variable `LANE`).
    """
    given: dict[str, ValueT | str] = dict(headers or {})
    if carriers.header in given:
        return given
    for name, value in carriers.headers_of(current_lane()).items():
        # Baggage of the user's own in a message is text or bytes of his; it is left alone.
        given.setdefault(name, value)
    return given


def lane_of(headers: Mapping[str, object] | None, *, carriers: Carriers = CARRIERS) -> str | None:
    """The lane a message is of; None without one, and for garbage."""
    return _read(headers, carriers).lane


def message_scope(
    headers: Mapping[str, object] | None, *, carriers: Carriers = CARRIERS
) -> LaneScope:
    """Run the block in the message's lane: neither that of the consumer nor that of its process.

    A base consumer gets messages that came back from a lane, so nothing but the header counts. One
    that is garbage counts as none, and is logged.
    """
    reading = _read(headers, carriers)
    if reading.problem is not None:
        logger.warning("the lane of a message is not believed: %s", reading.problem)
    return lane_scope(reading.lane)


def _read(headers: Mapping[str, object] | None, carriers: Carriers) -> Reading:
    if not headers:
        return Reading(None, None)
    return carriers.read_mapping(headers)
