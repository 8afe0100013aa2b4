"""Registry: one pipeline per service name, from settings that may change at any time."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from microservice_core import InvalidValueError
from microservice_governance.errors import InvalidSettingsError
from microservice_governance.events import Listener
from microservice_governance.exception_types import KNOWN_EXCEPTIONS

from .build import ConfiguredPipeline
from .config import (
    PipelineConfig,
    database_defaults,
    http_client_defaults,
    message_consumer_defaults,
)

__all__ = ("Registry",)

Settings = Mapping[str, object]

_PRESETS: Mapping[str, Callable[[], PipelineConfig]] = {
    "http": http_client_defaults,
    "database": database_defaults,
    "consumer": message_consumer_defaults,
}


class Registry:
    """Pipelines by service name: `registry.get("payments")`.

    Settings are a mapping with two parts:

    ```
    bases:
      http: {timeout: {seconds: 3}}                # changes or adds a base
    services:
      payments: {base: http, circuit_breaker: {open_seconds: 5}, retry: {enabled: false}}
    ```

    A service inherits the settings of its base and overrides those it names itself. The bases
    `http`, `database` and `consumer` always exist; a service without `base` inherits nothing.
    Exceptions are given by name: those of the standard library that concern calls, and `errors`.

    Args:
        settings: the first settings.
        errors: further exception types that settings may name.
        max_services: upper bound of the number of pipelines.
        clock: monotonic seconds, for all policies.

    Raises:
        InvalidSettingsError: the settings break a rule; the message names the location.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        errors: Mapping[str, type[Exception]] | None = None,
        max_services: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._errors = {**KNOWN_EXCEPTIONS, **(errors or {})}
        self._max_services = max_services
        self._clock = clock
        self._lock = threading.RLock()
        self._pipelines: dict[str, ConfiguredPipeline] = {}
        self._requested_bases: dict[str, str] = {}
        self._listeners: tuple[Listener, ...] = ()
        self._bases, self._services = self._parse(settings or {})

    def get(self, name: str, *, base: str | None = None) -> ConfiguredPipeline:
        """The pipeline of service `name`; the same object each time.

        Args:
            base: the base of the service, unless the settings name one.

        Raises:
            InvalidValueError: there is no such base, or there are too many services.
        """
        pipeline = self._pipelines.get(name)
        if pipeline is not None:
            return pipeline
        with self._lock:
            if name not in self._pipelines:
                self._pipelines[name] = self._create(name, base)
            return self._pipelines[name]

    def update(self, settings: Settings) -> None:
        """Use other settings; pipelines in use are changed and keep their state.

        Raises:
            InvalidSettingsError: the settings break a rule; nothing has changed.
        """
        with self._lock:
            before = self._bases, self._services
            self._bases, self._services = self._parse(settings)
            try:
                configs = {name: self._config_of(name) for name in self._pipelines}
            except InvalidValueError:
                self._bases, self._services = before
                raise
            for name, config in configs.items():
                self._pipelines[name].reconfigure(config)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the events of all pipelines, present and future.

        Returns a function that ends this.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)
            for pipeline in self._pipelines.values():
                pipeline.subscribe(listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other != listener)
            for pipeline in self._pipelines.values():
                pipeline.unsubscribe(listener)

    def snapshot(self) -> dict[str, object]:
        """The snapshots of all pipelines, by service name."""
        return {name: pipeline.snapshot() for name, pipeline in list(self._pipelines.items())}

    def _create(self, name: str, base: str | None) -> ConfiguredPipeline:
        if len(self._pipelines) >= self._max_services:
            rule = f"one of at most {self._max_services}; name services, not calls"
            raise InvalidValueError("service", name, rule)
        if base is not None:
            self._requested_bases[name] = self._validate_base(base)
        pipeline = ConfiguredPipeline(self._config_of(name), name=name, clock=self._clock)
        for listener in self._listeners:
            pipeline.subscribe(listener)
        return pipeline

    def _validate_base(self, base: str) -> str:
        if base not in self._bases:
            raise InvalidValueError("base", base, f"one of {', '.join(sorted(self._bases))}")
        return base

    def _config_of(self, name: str) -> PipelineConfig:
        config = self._services.get(name)
        if config is not None:
            return config
        base = self._requested_bases.get(name)
        return PipelineConfig() if base is None else self._bases[self._validate_base(base)]

    def _parse(
        self, settings: Settings
    ) -> tuple[dict[str, PipelineConfig], dict[str, PipelineConfig]]:
        unknown = set(settings) - {"bases", "services"}
        if unknown:
            raise InvalidSettingsError(min(unknown), "is neither 'bases' nor 'services'")
        bases = {name: preset() for name, preset in _PRESETS.items()}
        for name, changes in _section(settings, "bases").items():
            bases[name] = self._merge(f"bases.{name}", bases.get(name), changes)
        services = {}
        for name, value in _section(settings, "services").items():
            changes = _require_mapping(f"services.{name}", value)
            base = changes.get("base", self._requested_bases.get(name))
            if base is not None and base not in bases:
                names = ", ".join(sorted(bases))
                raise InvalidSettingsError(
                    f"services.{name}.base", f"{base!r} is not one of {names}"
                )
            overrides = {part: value for part, value in changes.items() if part != "base"}
            parent = None if base is None else bases[str(base)]
            services[name] = self._merge(f"services.{name}", parent, overrides)
        return bases, services

    def _merge(self, location: str, base: PipelineConfig | None, changes: object) -> PipelineConfig:
        merged = {} if base is None else _explicit_settings(base)
        for part, value in _require_mapping(location, changes).items():
            inherited = merged.get(part)
            if isinstance(value, Mapping) and isinstance(inherited, Mapping):
                merged[part] = {**inherited, **value}
            else:
                merged[part] = value
        try:
            return PipelineConfig.model_validate(merged, context={"errors": self._errors})
        except ValidationError as error:
            raise InvalidSettingsError.from_pydantic(location, error) from None


def _explicit_settings(config: PipelineConfig) -> dict[str, object]:
    """The values that were set; defaults are left out, so that a service inherits no default."""
    settings: dict[str, object] = {}
    for part in config.model_fields_set - {"disabled"}:
        value = getattr(config, part)
        if value is not None:
            settings[part] = {name: getattr(value, name) for name in value.model_fields_set}
    settings["disabled"] = config.disabled
    return settings


def _section(settings: Settings, name: str) -> Settings:
    return _require_mapping(name, settings.get(name, {}))


def _require_mapping(location: str, value: object) -> Settings:
    if not isinstance(value, Mapping):
        raise InvalidSettingsError(location, f"must be a mapping, not {type(value).__name__}")
    return value
