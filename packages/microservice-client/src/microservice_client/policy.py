"""How calls to a service behave: time limits, attempts, breaker, balancer, connections."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from microservice_core import InvalidValueError
from microservice_governance import AdaptiveLimitConfig, BulkheadConfig, LimitConfig
from microservice_lb import names as balancer_names

from .discovery.filters import match_version

__all__ = (
    "BALANCER_FIELDS",
    "BREAKER_FIELDS",
    "CONNECTION_FIELDS",
    "RETRY_BUDGET_FIELDS",
    "RaiseOn",
    "ServicePolicy",
    "TlsConfig",
)

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
RaiseOn = Literal["never", "server_errors", "errors"]
Status = Annotated[int, Field(ge=100, le=599)]


class TlsConfig(BaseModel):
    """How certificates of https instances are verified, and this client's own certificate.

    Attributes:
        ca_file: PEM file of the authorities to trust; by default certifi's.
        certificate_file, key_file: certificate of this client and its key, for mutual TLS.
        server_name: the name the certificate must have; by default the instance's address.
        verify: verify the certificate. Keep it on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    verify: bool = True

    @model_validator(mode="after")
    def _require_certificate_with_key(self) -> Self:
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file needs certificate_file as well")
        return self


class ServicePolicy(BaseModel):
    """The settings for calls to one service; every field has a sane default.

    Attributes:
        connect_timeout_seconds: time limit to open a connection; the wait for a free one does not
            count.
        attempt_timeout_seconds: time limit of one attempt until the response's headers arrive, then
            for each wait for more of the body. The default is shortened to
            `total_timeout_seconds`; a value that is set above that is refused.
        total_timeout_seconds: time limit of the call with all its attempts.
        attempts: most attempts per call, each on another instance while there is one.
        retry_statuses: response statuses after which another instance is tried.
        backoff_seconds: wait before the second attempt, doubled for each further one, jittered.
        max_retry_after_seconds: longest `Retry-After` that is waited for.
        retry_budget_ratio: retries allowed per call, in addition to `retry_budget_per_second`.
        retry_budget_per_second: retries per second that are always allowed.
        balancer: a name that `microservice_lb.create` accepts.
        zone: zone of this process, whose instances are preferred; empty = no preference.
        panic_threshold: below this share of healthy instances health is ignored; 0 = never.
        slow_start_seconds: time until a new instance gets its full share of calls; 0 = at once.
            Needs a balancer that honours weights.
        breaker_failures: failures in a row that open the circuit of an instance.
        breaker_open_seconds: how long the circuit of an instance stays open.
        bulkhead: limit of concurrent calls to the service and of calls that wait; none = no limit.
        adaptive_limit: limit of concurrent calls that follows the latency; none = no limit.
        rate_limit: limit of attempts per time; further ones are refused. None = no limit.
        hedge_after_seconds: an idempotent call without a response after this time is also sent to
            another instance, and the first response is used; none = never.
        hedge_attempts: most instances called at the same time.
        fallback_cache_seconds: how old the last good response may be that replaces a failed GET;
            0 = never. Only responses that the client read itself are kept, no streamed ones.
        propagate_deadline: send the remaining time in the header `grpc-timeout`.
        version: use only instances of these versions (PEP 440, e.g. `>=1.2,<2`); empty = any.
        labels: use only instances whose metadata has each of these pairs.
        raise_on: HTTP error statuses raised as `CallStatusError`: none, 500 and above, or 400 and
            above.
        max_connections_per_instance: most connections to one instance; further calls wait for one
            in order of arrival.
        max_idle_connections_per_instance: most unused connections kept to one instance.
        idle_connection_seconds: time after which an unused connection is closed.
        max_body_bytes: longest body that is read as a whole, counted after decoding; a longer one
            is a `BodyTooLargeError`. A streamed body has no limit.
        http2: use HTTP/2 where the instance supports it; needs the extra `http2`.
        tls: certificates for https instances.
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
    max_connections_per_instance: Annotated[int, Field(ge=1, le=100_000)] = 400
    max_idle_connections_per_instance: Annotated[int, Field(ge=0, le=100_000)] = 20
    idle_connection_seconds: Seconds = 5.0
    max_body_bytes: Annotated[int, Field(ge=1, le=2**40)] = 64 * 1024 * 1024
    http2: bool = False
    tls: TlsConfig = TlsConfig()

    @field_validator("labels", mode="before")
    @classmethod
    def _sort_labels(cls, value: object) -> object:
        return tuple(sorted(value.items())) if isinstance(value, dict) else value

    @field_validator("balancer")
    @classmethod
    def _validate_balancer(cls, value: str) -> str:
        if value.lower().replace("-", "_") not in balancer_names():
            raise ValueError(f"no balancer is named {value!r}: {', '.join(balancer_names())}")
        return value

    @field_validator("version")
    @classmethod
    def _validate_version(cls, value: str) -> str:
        try:
            match_version(value)
        except InvalidValueError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _require_time_for_an_attempt(self) -> Self:
        if self.attempt_timeout_seconds <= self.total_timeout_seconds:
            return self
        if "attempt_timeout_seconds" in self.model_fields_set:
            raise ValueError(
                "attempt_timeout_seconds must not be above total_timeout_seconds "
                f"({self.attempt_timeout_seconds:g} > {self.total_timeout_seconds:g})"
            )
        # Frozen for others; here the model is still being made.
        object.__setattr__(self, "attempt_timeout_seconds", self.total_timeout_seconds)
        return self


# Which fields each part of a service's state is built from: a new policy that leaves them as they
# are keeps that part. A field that is added to `ServicePolicy` may belong into one of these.
CONNECTION_FIELDS = (
    "tls",
    "http2",
    "max_connections_per_instance",
    "max_idle_connections_per_instance",
    "idle_connection_seconds",
)
BALANCER_FIELDS = ("balancer", "zone", "panic_threshold", "slow_start_seconds")
BREAKER_FIELDS = ("breaker_failures", "breaker_open_seconds")
RETRY_BUDGET_FIELDS = ("retry_budget_ratio", "retry_budget_per_second")
