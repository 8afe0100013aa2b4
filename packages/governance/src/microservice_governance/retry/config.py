"""Settings of a retry: which failures, how many attempts, how far apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from microservice_core import jittered
from microservice_governance.exception_types import NamedExceptions

from .backoff import (
    Backoff,
    DecorrelatedBackoff,
    ExponentialBackoff,
    Jitter,
    parse_backoff,
)

__all__ = ("RetryConfig",)


class RetryConfig(BaseModel):
    """Which failures to retry, how many attempts to make, and how far apart.

    Attributes:
        on: exception types to retry, or their names. There is no default: only the caller knows
            what is safe to repeat. An `ExceptionGroup` is retried only if it is named itself.
        attempts: number of attempts, the first included.
        backoff: a function from the number of failures to seconds; or a mapping with its `kind`
            (`fixed`, `exponential`, `decorrelated`) and its arguments.
        waits: another back-off for some of the types in `on`; the first matching type applies.
        jitter: random part of each wait: all of it (`full`), its upper half (`equal`), or `none`.
        retry_result: predicate on a returned value; true makes it be retried. The last value is
            returned.
        idempotent: whether the call may be repeated; or a predicate on its arguments. A call that
            may not be repeated is retried only after an error in `never_sent`.
        never_sent: errors that prove that the call did not reach a server.
        max_retry_after_seconds: an error that asks for a longer pause (`error.retry_after`) is not
            retried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    on: Annotated[NamedExceptions, Field(min_length=1)]
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    backoff: Backoff = ExponentialBackoff()
    waits: Mapping[type[Exception], Backoff] = Field(default_factory=dict)
    jitter: Jitter = "full"
    retry_result: Callable[[object], bool] | None = None
    idempotent: bool | Callable[..., bool] = True
    never_sent: NamedExceptions = (ConnectionRefusedError,)
    max_retry_after_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0

    @field_validator("backoff", mode="before")
    @classmethod
    def _parse_backoff(cls, value: object) -> object:
        return parse_backoff(value) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _check_waits(self) -> Self:
        for kind in self.waits:
            if not issubclass(kind, self.on):
                raise ValueError(  # noqa: TRY004 - pydantic wants this
                    f"waits has {kind.__name__}, which is not retried: add it to on, or remove it"
                )
        return self

    def wait_seconds(
        self, error: Exception | None, attempt: int, previous: float, random: Callable[[], float]
    ) -> float:
        """Seconds to wait after a failed attempt, unless the error asks for a longer pause.

        Args:
            error: why the attempt failed; None if its result is retried.
            attempt: number of the attempt, from 1.
            previous: the wait before that attempt; 0 for the first.
            random: a number from 0 to 1, as `random.random`.
        """
        backoff = self._backoff_for(error)
        if isinstance(backoff, DecorrelatedBackoff):
            return backoff.spread(previous, random)
        return jittered(backoff(attempt), self.jitter, random)

    def may_repeat(
        self, error: Exception | None, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> bool:
        """Whether a call with these arguments may be repeated after `error`."""
        if isinstance(error, self.never_sent):
            return True
        idempotent = self.idempotent
        return idempotent if isinstance(idempotent, bool) else bool(idempotent(*args, **kwargs))

    def _backoff_for(self, error: Exception | None) -> Backoff:
        for kind, backoff in self.waits.items():
            if isinstance(error, kind):
                return backoff
        return self.backoff
