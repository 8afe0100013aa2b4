"""What a lane can be called, and the names everybody agrees on."""

from __future__ import annotations

import re

__all__ = ("HEADER", "PROD", "is_lane")

HEADER = "x-lane"
PROD = "prod"

_LANE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def is_lane(value: str) -> bool:
    """Whether a lane can have this name: it has to fit into one label of a host name (RFC 1035)."""
    return _LANE.fullmatch(value) is not None
