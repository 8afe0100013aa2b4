"""The lane in the headers of a message: written by the producer, read by the consumer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

from lane_router.context.lane_context import LaneScope, current_lane, lane_scope
from lane_router.propagation.carriers import NO_LANE, Carriers, Reading

__all__ = ("CARRIERS", "lane_of", "message_scope", "with_lane")

logger = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")

CARRIERS = Carriers()


def with_lane(
    headers: Mapping[str, ValueT] | None = None, *, carriers: Carriers = CARRIERS
) -> dict[str, ValueT | str]:
    """A copy of the headers with the current lane added; headers that are set stay as they are.

    Outside of every scope the lane is that of the process (the variable `LANE`).
    """
    extended: dict[str, ValueT | str] = dict(headers or {})
    if carriers.header in extended:
        return extended
    for name, value in carriers.headers_for(current_lane()).items():
        # A baggage header of the user's own may be text or bytes, so nothing is added to it.
        extended.setdefault(name, value)
    return extended


def lane_of(headers: Mapping[str, object] | None, *, carriers: Carriers = CARRIERS) -> str | None:
    """The lane of a message; None without one, and for an invalid one."""
    return _read(headers, carriers).lane


def message_scope(
    headers: Mapping[str, object] | None, *, carriers: Carriers = CARRIERS
) -> LaneScope:
    """Run a block in the message's lane, whatever the lane of the consumer or its process.

    A base consumer also gets messages that fell back from a lane, so only the headers count. An
    invalid lane counts as none and is logged.
    """
    reading = _read(headers, carriers)
    if reading.problem is not None:
        logger.warning("the lane of a message is not accepted: %s", reading.problem)
    return lane_scope(reading.lane)


def _read(headers: Mapping[str, object] | None, carriers: Carriers) -> Reading:
    return carriers.read_mapping(headers) if headers else NO_LANE
