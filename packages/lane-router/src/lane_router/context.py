"""The lane of what runs now: set at the ingress, read at every egress, carried by contextvars."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .errors import InvalidLaneError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("HEADER", "PROD", "current_lane", "is_lane", "lane_headers", "lane_scope")

HEADER = "x-lane"
PROD = "prod"

_LANE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")

_current: ContextVar[str | None] = ContextVar("lane", default=None)


def is_lane(value: str) -> bool:
    """Whether a lane can have this name: it has to fit into one label of a host name (RFC 1035)."""
    return _LANE.fullmatch(value) is not None


def current_lane() -> str | None:
    """The lane of the present task or thread; None outside of any."""
    return _current.get()


@contextmanager
def lane_scope(lane: str | None) -> Iterator[None]:
    """Run the block in this lane; None = in no lane, whatever is around it.

    Raises:
        InvalidLaneError: no lane can have this name.
    """
    if lane is not None and not is_lane(lane):
        raise InvalidLaneError(lane)
    token = _current.set(lane)
    try:
        yield
    finally:
        _current.reset(token)


def lane_headers(*, header: str = HEADER) -> dict[str, str]:
    """What to add to a request to a service of the mesh, so that the next hop knows the lane.

    Empty outside of any lane and in `prod`. Never add it to a request to a foreign host.
    """
    lane = _current.get()
    return {} if lane is None or lane == PROD else {header: lane}
