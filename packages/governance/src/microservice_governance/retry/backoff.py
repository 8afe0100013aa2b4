"""How long to wait between attempts, and how to spread the waits of many clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from microservice_core import InvalidValueError

__all__ = (
    "Backoff",
    "DecorrelatedBackoff",
    "ExponentialBackoff",
    "FixedBackoff",
    "Jitter",
    "backoff_from",
    "jittered",
)

Backoff = Callable[[int], float]
"""Seconds to wait after the n-th failed attempt (from 1), before jitter."""

Jitter = Literal["full", "equal", "none"]


@dataclass(frozen=True, slots=True)
class FixedBackoff:
    """The same wait each time."""

    seconds: float = 0.1

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds)

    def __call__(self, attempt: int) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Each wait is `multiplier` times the one before, up to `max_seconds`."""

    initial_seconds: float = 0.1
    multiplier: float = 2.0
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        check_seconds("initial_seconds", self.initial_seconds)
        check_seconds("max_seconds", self.max_seconds)
        if not 1 <= self.multiplier <= 100:
            raise InvalidValueError("multiplier", self.multiplier, "a number from 1 to 100")

    def __call__(self, attempt: int) -> float:
        try:
            return min(self.max_seconds, self.initial_seconds * self.multiplier ** (attempt - 1))
        except OverflowError:
            return self.max_seconds


@dataclass(frozen=True, slots=True)
class DecorrelatedBackoff:
    """Each wait is random, between the first one and three times the one before.

    It is its own jitter: `jitter` is not applied on top. The cap bounds the range and not the wait,
    so that clients at the cap stay spread.

    Source: Exponential Backoff And Jitter, AWS Architecture Blog (2015).
    """

    initial_seconds: float = 0.1
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        check_seconds("initial_seconds", self.initial_seconds)
        check_seconds("max_seconds", self.max_seconds)
        if self.max_seconds < self.initial_seconds:
            rule = f"at least initial_seconds, {self.initial_seconds}"
            raise InvalidValueError("max_seconds", self.max_seconds, rule)

    def __call__(self, attempt: int) -> float:
        """The longest the n-th wait can be."""
        try:
            return min(self.max_seconds, self.initial_seconds * 3.0**attempt)
        except OverflowError:
            return self.max_seconds

    def spread(self, previous: float, random: Callable[[], float]) -> float:
        """The wait that follows one of `previous` seconds; 0 before the first."""
        least = self.initial_seconds
        most = min(self.max_seconds, 3 * max(previous, least))
        return least + (most - least) * random()


_KINDS: dict[str, Callable[..., Backoff]] = {
    "fixed": FixedBackoff,
    "exponential": ExponentialBackoff,
    "decorrelated": DecorrelatedBackoff,
}


def backoff_from(settings: Mapping[str, object]) -> Backoff:
    """The backoff that a mapping describes: `{"kind": "fixed", "seconds": 1}`.

    Raises:
        ValueError: there is no such kind, or it does not take those arguments.
    """
    kind = settings.get("kind")
    if kind not in _KINDS:
        raise InvalidValueError("kind", kind, f"one of {', '.join(_KINDS)}")
    arguments = {name: value for name, value in settings.items() if name != "kind"}
    try:
        return _KINDS[str(kind)](**arguments)
    except TypeError as error:
        raise ValueError(f"{kind} backoff: {error}") from None


def jittered(seconds: float, jitter: Jitter, random: Callable[[], float]) -> float:
    """A random part of the wait: all of it (`full`), the upper half (`equal`) or none.

    It comes last, after every cap, so that clients at the cap stay spread.
    """
    match jitter:
        case "full":
            return seconds * random()
        case "equal":
            return seconds * (1 + random()) / 2
        case "none":
            return seconds


def check_seconds(field: str, value: float) -> None:
    """Refuse what no sleep can take.

    Raises:
        InvalidValueError: it is negative, more than a day, or not a number.
    """
    if not 0 <= value <= 86_400:
        raise InvalidValueError(field, value, "a number of seconds from 0 to 86400")
