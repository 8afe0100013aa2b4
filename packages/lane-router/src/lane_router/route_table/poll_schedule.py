"""When to poll the registry next: jittered, so that pods of one rollout do not stay in phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microservice_core import backoff_seconds, jittered, reseed_after_fork

if TYPE_CHECKING:
    import random

__all__ = ("PollSchedule",)


class PollSchedule:
    """Delays in seconds between two requests to the registry; used by one thread.

    Plain polling waits U(0, `poll_seconds`) the first time and then `poll_seconds` +- 20 %. The
    next long-poll follows after `floor_seconds`, jittered. Failures back off exponentially from
    `floor_seconds` to `poll_seconds`; a longer `Retry-After` is honoured up to `longest_seconds`.
    """

    def __init__(
        self,
        *,
        poll_seconds: float = 30.0,
        floor_seconds: float = 0.5,
        longest_seconds: float = 300.0,
        rng: random.Random | None = None,
    ) -> None:
        self._poll = poll_seconds
        self._floor = floor_seconds
        self._longest = longest_seconds
        if rng is None:
            import random  # here: slow to import, and not needed by a process that never polls

            rng = reseed_after_fork(random.Random())
        self._rng = rng
        self._failures = 0
        self._polled = False

    def delay_after_poll(self) -> float:
        """Seconds to wait after a plain request that succeeded."""
        self._failures = 0
        if not self._polled:
            self._polled = True
            return self._rng.uniform(0.0, self._poll)
        return self._poll * self._rng.uniform(0.8, 1.2)

    def delay_after_watch(self) -> float:
        """Seconds to wait after a long-poll that ended, with a change or without."""
        self._failures = 0
        return jittered(self._floor, "equal", self._rng.random)

    def delay_after_failure(self, retry_after_seconds: float | None = None) -> float:
        """Seconds to wait after a request that failed or whose response was not usable."""
        self._failures += 1
        longest = backoff_seconds(
            self._failures, initial_seconds=self._floor, max_seconds=self._poll
        )
        delay = jittered(longest, "equal", self._rng.random)
        if retry_after_seconds is None:
            return delay
        return max(delay, min(retry_after_seconds, self._longest))
