"""Starting while a server is down: what to do, and how long to pause between attempts."""

from __future__ import annotations

import random
from typing import Literal

from microservice_core import backoff_seconds, jittered

__all__ = ("OnUnavailable", "retry_pause_seconds")

OnUnavailable = Literal["fail", "wait", "degrade"]
"""`fail` raises, `wait` tries again for a while, `degrade` starts without the server."""

_FIRST_PAUSE_SECONDS = 0.5


def retry_pause_seconds(failures: int, *, max_seconds: float, rng: random.Random) -> float:
    """Seconds to pause after this many failed attempts in a row: from 0.5 s up, with jitter.

    Args:
        failures: from 1.
        max_seconds: no pause is longer.
    """
    pause = backoff_seconds(failures, initial_seconds=_FIRST_PAUSE_SECONDS, max_seconds=max_seconds)
    return jittered(pause, "equal", rng.random)
