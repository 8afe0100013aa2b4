"""Back-off: how long to wait between the attempts of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from microservice_core import InvalidValueError, Jitter, backoff_seconds

__all__ = (
    "Backoff",
    "DecorrelatedBackoff",
    "ExponentialBackoff",
    "FixedBackoff",
    "Jitter",
    "parse_backoff",
)

Backoff = Callable[[int], float]
"""Seconds to wait after the n-th failed attempt (from 1), before jitter."""


@dataclass(frozen=True, slots=True)
class FixedBackoff:
    """The same wait after every failure."""

    seconds: float = 0.1

    def __post_init__(self) -> None:
        _validate_seconds("seconds", self.seconds)

    def __call__(self, attempt: int) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Each wait is `multiplier` times the previous one, up to `max_seconds`."""

    initial_seconds: float = 0.1
    multiplier: float = 2.0
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        _validate_seconds("initial_seconds", self.initial_seconds)
        _validate_seconds("max_seconds", self.max_seconds)
        if not 1 <= self.multiplier <= 100:
            raise InvalidValueError("multiplier", self.multiplier, "a number from 1 to 100")

    def __call__(self, attempt: int) -> float:
        return backoff_seconds(
            attempt,
            initial_seconds=self.initial_seconds,
            max_seconds=self.max_seconds,
            multiplier=self.multiplier,
        )


@dataclass(frozen=True, slots=True)
class DecorrelatedBackoff:
    """Each wait is random, between `initial_seconds` and three times the previous wait.

    The randomness is its jitter: `RetryConfig.jitter` is not applied to it. `max_seconds` caps the
    range that is drawn from, not the wait that was drawn, so that clients at the cap stay spread.

    Source: Exponential Backoff And Jitter, AWS Architecture Blog (2015).
    """

    initial_seconds: float = 0.1
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        _validate_seconds("initial_seconds", self.initial_seconds)
        _validate_seconds("max_seconds", self.max_seconds)
        if self.max_seconds < self.initial_seconds:
            rule = f"at least initial_seconds, {self.initial_seconds}"
            raise InvalidValueError("max_seconds", self.max_seconds, rule)

    def __call__(self, attempt: int) -> float:
        """The longest the n-th wait can be."""
        return backoff_seconds(
            attempt + 1,
            initial_seconds=self.initial_seconds,
            max_seconds=self.max_seconds,
            multiplier=3.0,
        )

    def spread(self, previous: float, random: Callable[[], float]) -> float:
        """The wait after one of `previous` seconds.

        Args:
            previous: seconds; 0 for the first wait.
            random: a number from 0 to 1, as `random.random`.
        """
        lowest = self.initial_seconds
        highest = min(self.max_seconds, 3 * max(previous, lowest))
        return lowest + (highest - lowest) * random()


_KINDS: dict[str, Callable[..., Backoff]] = {
    "fixed": FixedBackoff,
    "exponential": ExponentialBackoff,
    "decorrelated": DecorrelatedBackoff,
}


def parse_backoff(settings: Mapping[str, object]) -> Backoff:
    """The back-off that a mapping describes, such as `{"kind": "fixed", "seconds": 1}`.

    Raises:
        ValueError: there is no such kind, or it does not take these arguments.
    """
    kind = settings.get("kind")
    if kind not in _KINDS:
        raise InvalidValueError("kind", kind, f"one of {', '.join(_KINDS)}")
    arguments = {name: value for name, value in settings.items() if name != "kind"}
    try:
        return _KINDS[str(kind)](**arguments)
    except TypeError as error:
        raise ValueError(f"{kind} backoff: {error}") from None


def _validate_seconds(field: str, value: float) -> None:
    if not 0 <= value <= 86_400:
        raise InvalidValueError(field, value, "a number of seconds from 0 to 86400")
