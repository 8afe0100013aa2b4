"""What to retry, how often and how far apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from microservice_governance.named_exceptions import NamedExceptions

from .backoff import (
    Backoff,
    DecorrelatedBackoff,
    ExponentialBackoff,
    Jitter,
    backoff_from,
    jittered,
)

__all__ = ("RetryConfig",)


class RetryConfig(BaseModel):
    """What to retry, how often and how far apart.

    Attributes:
        on: exception types to retry, or their names. There is no default: only the caller knows what is safe.
        attempts: calls in all, the first included.
        backoff: seconds to wait after the n-th failure; or a mapping with its `kind` (`fixed`,
            `exponential`, `decorrelated`) and its arguments.
        waits: another backoff for some of the types in `on`; the first that fits counts.
        jitter: how much of each wait is random: all (`full`), the upper half (`equal`), `none`.
        retry_result: a returned value for which this is true is retried; the last one is returned.
        idempotent: whether the call may be made twice; or a function of its arguments that says
            so. A call that may not is retried only after an error in `never_sent`.
        never_sent: errors which prove that the call never reached anybody.
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
    def _by_name(cls, value: object) -> object:
        return backoff_from(value) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _waits_for_what_is_retried(self) -> Self:
        for kind in self.waits:
            if not issubclass(kind, self.on):
                raise ValueError(  # noqa: TRY004 - pydantic wants this
                    f"waits has {kind.__name__}, which is not retried: add it to on, or drop it"
                )
        return self

    def wait_seconds(
        self, error: Exception | None, attempt: int, previous: float, random: Callable[[], float]
    ) -> float:
        """How long to wait after that failure, before anybody asked for more."""
        backoff = self._backoff_for(error)
        if isinstance(backoff, DecorrelatedBackoff):
            return backoff.spread(previous, random)
        return jittered(backoff(attempt), self.jitter, random)

    def may_repeat(
        self, error: Exception | None, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> bool:
        """Whether a call with these arguments may be made again after that failure."""
        if isinstance(error, self.never_sent):
            return True
        safe = self.idempotent
        return safe if isinstance(safe, bool) else bool(safe(*args, **kwargs))

    def _backoff_for(self, error: Exception | None) -> Backoff:
        for kind, backoff in self.waits.items():
            if isinstance(error, kind):
                return backoff
        return self.backoff
