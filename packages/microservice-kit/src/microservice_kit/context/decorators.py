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
from microservice_kit.config.data import MISSING, look_up

from .current import open_modules, subscribe_to_modules
from .declared_breakers import add_breaker

__all__ = ("circuit_breaker", "config_properties", "governed", "rate_limited", "retry")

logger = logging.getLogger(__name__)

PartT = TypeVar("PartT", bound=BaseModel)
ConfigT = TypeVar("ConfigT")
PolicyT = TypeVar("PolicyT")

# The key of the configuration that holds the settings, in the form that `Registry` describes.
_GOVERNANCE_KEY = "governance"
_MAX_NAMES = 1000

_registry = Registry()
_lock = threading.Lock()


@dataclass(slots=True)
class _NamedPolicy(Generic[PolicyT, ConfigT]):
    """A policy, its settings in the code, and those it has now."""

    policy: PolicyT
    code_config: ConfigT
    active_config: ConfigT


class NamedPolicies(Generic[PolicyT, ConfigT]):
    """The policies of one kind by name; the configuration's settings for a name win.

    Args:
        section: where the settings are below `governance.services.<name>`.
        create: creates a policy.
        reconfigure: gives a policy in use other settings.
    """

    def __init__(
        self,
        section: str,
        create: Callable[[str, ConfigT], PolicyT],
        reconfigure: Callable[[PolicyT, ConfigT], None],
    ) -> None:
        self._section = section
        self._create = create
        self._reconfigure = reconfigure
        self._by_name: dict[str, _NamedPolicy[PolicyT, ConfigT]] = {}

    def get(self, name: str, config: ConfigT) -> PolicyT:
        """Return the policy of that name, one per process.

        Args:
            config: the settings while the configuration has none; those of the first use count.

        Raises:
            InvalidValueError: there are too many names.
        """
        with _lock:
            if name not in self._by_name:
                if len(self._by_name) >= _MAX_NAMES:
                    raise InvalidValueError("name", name, f"one of at most {_MAX_NAMES}")
                active = self._read_config(name) or config
                self._by_name[name] = _NamedPolicy(self._create(name, active), config, active)
            return self._by_name[name].policy

    def refresh(self) -> None:
        """Give each policy the settings that the configuration has for it now."""
        for name, named in tuple(self._by_name.items()):
            config = self._read_config(name) or named.code_config
            if named.active_config != config:
                named.active_config = config
                self._reconfigure(named.policy, config)

    def _read_config(self, name: str) -> ConfigT | None:
        return cast("ConfigT | None", getattr(_registry.get(name).config, self._section))


def _create_breaker(name: str, config: BreakerConfig) -> CircuitBreaker:
    breaker = CircuitBreaker(name, config)
    add_breaker(name, breaker)
    return breaker


_breakers = NamedPolicies[CircuitBreaker, BreakerConfig](
    "circuit_breaker", _create_breaker, CircuitBreaker.reconfigure
)
_limiters = NamedPolicies[RateLimiter, LimitConfig](
    "rate_limit", lambda name, config: RateLimiter(config, name=name), RateLimiter.reconfigure
)
_retries = NamedPolicies[Retry, RetryConfig](
    "retry", lambda name, config: Retry(config, name=name), Retry.reconfigure
)


def circuit_breaker(name: str, config: BreakerConfig | None = None) -> CircuitBreaker:
    """Return the breaker of that name, one per process: `@circuit_breaker("payments")`.

    Functions that share a name share a breaker. The settings are those of the configuration's
    `governance.services.<name>.circuit_breaker`, live; without them `config` of the first use.
    """
    return _breakers.get(name, config or BreakerConfig())


def rate_limited(name: str, config: LimitConfig) -> RateLimiter:
    """Return the limiter of that name: `@rate_limited("search", LimitConfig(rate=5))`.

    As `circuit_breaker`, with `governance.services.<name>.rate_limit`.
    """
    return _limiters.get(name, config)


def retry(name: str, config: RetryConfig) -> Retry:
    """Return the retries of that name: `@retry("search", RetryConfig(on=(OSError,)))`.

    As `circuit_breaker`, with `governance.services.<name>.retry`.
    """
    return _retries.get(name, config)


def governed(name: str, *, base: str | None = None) -> Pipeline:
    """Return every policy of `governance.services.<name>`, in the recommended order.

    Args:
        base: `http`, `database` or `consumer`: the defaults where the configuration is silent.
    """
    return _registry.get(name, base=base)


def config_properties(prefix: str) -> Callable[[type[PartT]], type[PartT]]:
    """Declare the configuration key that contains a model's fields.

    `@config_properties(prefix="db")` on a model; `module.config.properties(Db)` then returns that
    part of the newest configuration, validated.
    """

    def mark(model: type[PartT]) -> type[PartT]:
        model.__config_prefix__ = prefix  # type: ignore[attr-defined] # read by ConfigReader
        return model

    return mark


def refresh_policies() -> None:
    """Apply the configuration of the module that was opened last; invalid settings are ignored."""
    modules = open_modules()
    data = look_up(modules[-1].own_config.version.data, _GOVERNANCE_KEY) if modules else MISSING
    settings = data if isinstance(data, Mapping) else {}
    try:
        _registry.update(settings)
    except (InvalidSettingsError, InvalidValueError) as error:
        logger.error("%s; keeping the previous policies", error)  # noqa: TRY400
        if modules:
            modules[-1].own_config.report_section(_GOVERNANCE_KEY, _describe(error))
        return
    if modules:
        modules[-1].own_config.report_section(_GOVERNANCE_KEY, None)
    for policies in (_breakers, _limiters, _retries):
        policies.refresh()


def _describe(error: InvalidSettingsError | InvalidValueError) -> str:
    """Say what is wrong, and where, without the value."""
    if isinstance(error, InvalidSettingsError):
        return f"{error.location}: {error.rule}"
    return f"{error.field} must be {error.rule}"


subscribe_to_modules(refresh_policies)
refresh_policies()
