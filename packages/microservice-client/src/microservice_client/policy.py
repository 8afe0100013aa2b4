"""How calls to a service behave: time limits, attempts, breaker, balancer, connections."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from microservice_core import InvalidValueError
from microservice_governance import AdaptiveLimitConfig, BulkheadConfig, LimitConfig
from microservice_lb import names as balancer_names

from .discovery.filters import version_range

__all__ = ("RaiseOn", "ServicePolicy", "TlsConfig")

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
RaiseOn = Literal["never", "server_errors", "errors"]
Status = Annotated[int, Field(ge=100, le=599)]


class TlsConfig(BaseModel):
    """How https instances of a service are checked, and what we show them.

    Attributes:
        ca_file: PEM file of the authorities to trust; the system's (certifi's) when not given.
        certificate_file, key_file: our own certificate and its key, for mutual TLS.
        server_name: the name the certificate must carry; the instance's address when not given.
        verify: check the certificate. Leave it on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    verify: bool = True

    @model_validator(mode="after")
    def _key_belongs_to_a_certificate(self) -> Self:
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file needs certificate_file beside it")
        return self


class ServicePolicy(BaseModel):
    """The behaviour of calls to one service; every field has a sane default.

    Attributes:
        connect_timeout_seconds: for one connection.
        attempt_timeout_seconds: for one attempt, until its response's headers are there; then for
            each wait for more of the body.
        total_timeout_seconds: for the call with all its attempts.
        attempts: tries at most, each on another instance while there is one.
        retry_statuses: responses that count as "try another one".
        backoff_seconds: wait before the second attempt, doubled for each further one, jittered.
        max_retry_after_seconds: a `Retry-After` beyond it is not waited for.
        retry_budget_ratio: retries per call that are allowed on top of `retry_budget_per_second`.
        retry_budget_per_second: retries per second that are always allowed.
        balancer: a name that `microservice_lb.create` knows.
        zone: the own zone, whose instances are preferred; empty = no preference.
        panic_threshold: with a smaller share of healthy instances health is ignored; 0 = never.
        slow_start_seconds: a new instance gets its full share after that long; 0 = at once. Needs
            a balancer that honours weights.
        breaker_failures: failures in a row after which an instance is left alone.
        breaker_open_seconds: for how long.
        bulkhead: calls to the service at once, and how many may wait for a place; none = any number.
        adaptive_limit: as many calls at once as the service turns out to bear; none = any number.
        rate_limit: attempts let through per time; what is above is refused. None = any number.
        hedge_after_seconds: an idempotent call without an answer by then is sent to another
            instance as well, and the first answer wins; none = never.
        hedge_attempts: instances asked at once, at most.
        fallback_cache_seconds: a GET that fails is answered by its last good answer while that is
            no older; 0 = never. Only answers that the client itself has read are kept, none that
            was streamed.
        propagate_deadline: say in a header (`grpc-timeout`) how long the answer is waited for.
        version: only instances of these versions (PEP 440, e.g. `>=1.2,<2`); empty = any.
        labels: only instances whose metadata has each of these.
        raise_on: which HTTP error statuses are raised as `CallStatusError`: none, 500 and above,
            or 400 and above.
        max_connections_per_instance, max_idle_connections_per_instance: connections to one.
        idle_connection_seconds: an unused connection is closed after that long.
        http2: speak HTTP/2 where the instance does; needs the extra `http2`.
        tls: for instances that are called over https.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    connect_timeout_seconds: Seconds = 1.0
    attempt_timeout_seconds: Seconds = 5.0
    total_timeout_seconds: Seconds = 10.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    retry_statuses: frozenset[Status] = frozenset({429, 502, 503, 504})
    backoff_seconds: Annotated[float, Field(ge=0, le=60)] = 0.025
    max_retry_after_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    retry_budget_ratio: Annotated[float, Field(ge=0, le=10)] = 0.2
    retry_budget_per_second: Annotated[float, Field(ge=0, le=10_000)] = 10.0
    balancer: str = "peak_ewma"
    zone: str = ""
    panic_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    slow_start_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    breaker_failures: Annotated[int, Field(ge=1, le=10_000)] = 5
    breaker_open_seconds: Seconds = 10.0
    bulkhead: BulkheadConfig | None = None
    adaptive_limit: AdaptiveLimitConfig | None = None
    rate_limit: LimitConfig | None = None
    hedge_after_seconds: Seconds | None = None
    hedge_attempts: Annotated[int, Field(ge=2, le=5)] = 2
    fallback_cache_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    propagate_deadline: bool = True
    version: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    raise_on: RaiseOn = "never"
    max_connections_per_instance: Annotated[int, Field(ge=1, le=100_000)] = 100
    max_idle_connections_per_instance: Annotated[int, Field(ge=0, le=100_000)] = 20
    idle_connection_seconds: Seconds = 5.0
    http2: bool = False
    tls: TlsConfig = TlsConfig()

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_as_pairs(cls, value: object) -> object:
        return tuple(sorted(value.items())) if isinstance(value, dict) else value

    @field_validator("balancer")
    @classmethod
    def _known_balancer(cls, value: str) -> str:
        if value.lower().replace("-", "_") not in balancer_names():
            raise ValueError(f"no balancer is named {value!r}: {', '.join(balancer_names())}")
        return value

    @field_validator("version")
    @classmethod
    def _readable_range(cls, value: str) -> str:
        try:
            version_range(value)
        except InvalidValueError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _one_attempt_fits(self) -> Self:
        if self.attempt_timeout_seconds > self.total_timeout_seconds:
            raise ValueError(
                "attempt_timeout_seconds must not be above total_timeout_seconds "
                f"({self.attempt_timeout_seconds:g} > {self.total_timeout_seconds:g})"
            )
        return self
