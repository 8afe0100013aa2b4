"""The lane a process was started in: what it does on its own behalf happens there."""

from __future__ import annotations

import logging
import os

from .lane_name import PROD, is_lane

__all__ = ("VARIABLE", "process_is_prod", "process_lane")

logger = logging.getLogger(__name__)

VARIABLE = "LANE"

# (lane, whether it is prod), read once: the environment of a process does not move.
_known: tuple[str | None, bool] | None = None


def process_lane() -> str | None:
    """The variable `LANE`; None when it is not set, empty, or no name a lane can have."""
    return (_known or _read())[0]


def process_is_prod() -> bool:
    """Whether `LANE` is unset, empty or `prod`; garbage is not prod."""
    return (_known or _read())[1]


def _read() -> tuple[str | None, bool]:
    global _known  # noqa: PLW0603
    value = os.environ.get(VARIABLE, "")
    if value and not is_lane(value):
        logger.warning(
            "the variable %s is no lane name: in no lane, and not in prod; correct it", VARIABLE
        )
        _known = None, False
    else:
        _known = value or None, value in {"", PROD}
    return _known
