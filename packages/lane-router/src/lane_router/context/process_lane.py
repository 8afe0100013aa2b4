"""The lane of the whole process: the environment variable `LANE`, read once."""

from __future__ import annotations

import logging
import os

from .lane_name import PROD, is_lane

__all__ = ("VARIABLE", "process_is_prod", "process_lane")

logger = logging.getLogger(__name__)

VARIABLE = "LANE"

# (lane, whether it is prod). Read once: this is on the path of every request, and the environment
# of a running process does not change.
_cached: tuple[str | None, bool] | None = None


def process_lane() -> str | None:
    """The lane in the variable `LANE`; None when it is unset, empty or not a valid lane name."""
    return (_cached or _read())[0]


def process_is_prod() -> bool:
    """Whether `LANE` is unset, empty or `prod`; an invalid value does not count as prod."""
    return (_cached or _read())[1]


def _read() -> tuple[str | None, bool]:
    global _cached  # noqa: PLW0603 - the cache of the two functions above
    value = os.environ.get(VARIABLE, "")
    if value and not is_lane(value):
        logger.warning(
            "the variable %s is not a valid lane name: this process runs in no lane and does not "
            "count as prod; correct it",
            VARIABLE,
        )
        _cached = None, False
    else:
        _cached = value or None, value in {"", PROD}
    return _cached
