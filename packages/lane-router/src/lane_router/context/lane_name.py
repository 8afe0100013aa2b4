"""The rule for lane names, and the names that every service agrees on."""

from __future__ import annotations

import re

__all__ = ("HEADER", "PROD", "is_lane")

HEADER = "x-lane"
PROD = "prod"

_LANE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def is_lane(value: str) -> bool:
    """Whether this is a valid lane name: it must fit into one label of a host name (RFC 1035)."""
    return _LANE.fullmatch(value) is not None
