"""Policies and configuration by name for an application's own functions and classes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from pydantic import BaseModel

from microservice_core import InvalidValueError
from microservice_governance import (
    BreakerConfig,
    CircuitBreaker,
    InvalidSettingsError,
    LimitConfig,
    Pipeline,
    RateLimiter,
    Registry,
    Retry,
    RetryConfig,
)

from .config.placeholders import MISSING, lookup
from .current import follow_modules, open_services

__all__ = ("circuit_breaker", "config_properties", "governed", "rate_limited", "retry")

logger = logging.getLogger(__name__)

PartT = TypeVar("PartT", bound=BaseModel)
ConfigT = TypeVar("ConfigT")
PolicyT = TypeVar("PolicyT")

# The key of the configuration that holds the settings, in the form that `Registry` describes.
GOVERNANCE = "governance"
MOST_NAMES = 1000

_registry = Registry()
_lock = threading.Lock()


@dataclass(slots=True)
class _Named(Generic[PolicyT, ConfigT]):
    policy: PolicyT
    own: ConfigT
    in_force: ConfigT


class NamedPolicies(Generic[PolicyT, ConfigT]):
    """The policies of one kind by name; the configuration's settings for a name win.

    Args:
        part: where the settings lie below `governance.services.<name>`.
        make: makes a policy.
        reconfigure: gives one that is in use other settings.
    """

    def __init__(
        self,
        part: str,
        make: Callable[[str, ConfigT], PolicyT],
        reconfigure: Callable[[PolicyT, ConfigT], None],
    ) -> None:
        self._part = part
        self._make = make
        self._reconfigure = reconfigure
        self._known: dict[str, _Named[PolicyT, ConfigT]] = {}

    def get(self, name: str, config: ConfigT) -> PolicyT:
        """The policy of that name, one per process; `config` counts where it is used first."""
        with _lock:
            if name not in self._known:
                if len(self._known) >= MOST_NAMES:
                    raise InvalidValueError("name", name, f"one of at most {MOST_NAMES}")
                wanted = self._configured(name) or config
                self._known[name] = _Named(self._make(name, wanted), config, wanted)
            return self._known[name].policy

    def all(self) -> dict[str, PolicyT]:
        """Every policy there is, by name."""
        with _lock:
            return {name: known.policy for name, known in self._known.items()}

    def refresh(self) -> None:
        """Go by the settings of now."""
        for name, known in tuple(self._known.items()):
            wanted = self._configured(name) or known.own
            if known.in_force != wanted:
                known.in_force = wanted
                self._reconfigure(known.policy, wanted)

    def _configured(self, name: str) -> ConfigT | None:
        return cast("ConfigT | None", getattr(_registry.get(name).config, self._part))


_breakers = NamedPolicies[CircuitBreaker, BreakerConfig](
    "circuit_breaker", CircuitBreaker, CircuitBreaker.reconfigure
)
_limiters = NamedPolicies[RateLimiter, LimitConfig](
    "rate_limit", lambda name, config: RateLimiter(config, name=name), RateLimiter.reconfigure
)
_retries = NamedPolicies[Retry, RetryConfig](
    "retry", lambda name, config: Retry(config, name=name), Retry.reconfigure
)


def circuit_breaker(name: str, config: BreakerConfig | None = None) -> CircuitBreaker:
    """The breaker of that name, one per process: `@circuit_breaker("payments")`.

    Functions that share a name share a breaker. `config` counts where the name is used first, and
    the configuration's `governance.services.<name>.circuit_breaker` before it, live.
    """
    return _breakers.get(name, config or BreakerConfig())


def breaker_states() -> dict[str, str]:
    """The state of each breaker made by `circuit_breaker`, by name."""
    return {name: str(breaker.current_state) for name, breaker in _breakers.all().items()}


def rate_limited(name: str, config: LimitConfig) -> RateLimiter:
    """The limiter of that name: `@rate_limited("search", LimitConfig(rate=5))`.

    As `circuit_breaker`, with `governance.services.<name>.rate_limit`.
    """
    return _limiters.get(name, config)


def retry(name: str, config: RetryConfig) -> Retry:
    """The retries of that name: `@retry("search", RetryConfig(on=(OSError,)))`.

    As `circuit_breaker`, with `governance.services.<name>.retry`.
    """
    return _retries.get(name, config)


def governed(name: str, *, base: str | None = None) -> Pipeline:
    """Everything that `governance.services.<name>` says, in the recommended order.

    Args:
        base: `http`, `database` or `consumer`: what holds where the configuration says nothing.
    """
    return _registry.get(name, base=base)


def config_properties(prefix: str) -> Callable[[type[PartT]], type[PartT]]:
    """Say under which key of the configuration a model's fields lie.

    `@config_properties(prefix="db")` on a model; `services.config.properties(Db)` is then that part
    of the configuration, validated, and of now each time it is asked for.
    """

    def mark(model: type[PartT]) -> type[PartT]:
        model.__config_prefix__ = prefix  # type: ignore[attr-defined] # read by ConfigService
        return model

    return mark


def refresh_policies() -> None:
    """Go by the configuration of the module opened last; settings that are wrong change nothing."""
    opened = open_services()
    found = lookup(opened[-1].config.version.data, GOVERNANCE) if opened else MISSING
    settings = found if isinstance(found, Mapping) else {}
    try:
        _registry.update(settings)
    except (InvalidSettingsError, InvalidValueError) as error:
        logger.error("%s; the policies stay as they were", error)  # noqa: TRY400
        return
    for policies in (_breakers, _limiters, _retries):
        policies.refresh()


follow_modules(refresh_policies)
refresh_policies()
