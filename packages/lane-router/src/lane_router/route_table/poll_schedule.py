"""When to ask the registry again: jittered, so that pods of one rollout do not stay in phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

__all__ = ("PollSchedule",)


class PollSchedule:
    """Delays in seconds between two questions; belongs to one thread.

    Plain polling waits U(0, `poll_seconds`) the first time and then `poll_seconds` +- 20 %. A
    long-poll is asked again after `floor_seconds`. Failures back off from `floor_seconds` to
    `poll_seconds`, doubled and jittered; a `Retry-After` is honoured up to `longest_seconds`.
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
            import random

            rng = random.Random()
        self._rng = rng
        self._failures = 0
        self._polled = False

    def after_poll(self) -> float:
        """The answer to a plain question came."""
        self._failures = 0
        if not self._polled:
            self._polled = True
            return self._rng.uniform(0.0, self._poll)
        return self._poll * self._rng.uniform(0.8, 1.2)

    def after_watch(self) -> float:
        """A long-poll ended, with news or without."""
        self._failures = 0
        return self._floor * self._rng.uniform(0.5, 1.0)

    def after_failure(self, retry_after_seconds: float | None = None) -> float:
        """No answer, or none that can be used."""
        grown = self._floor * 2.0 ** min(self._failures, 16)
        self._failures += 1
        delay = min(grown, self._poll) * self._rng.uniform(0.5, 1.5)
        if retry_after_seconds is None:
            return delay
        return max(delay, min(retry_after_seconds, self._longest))
