"""Registry: one pipeline per service, by name, from settings that may change at any time."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from microservice_core import InvalidValueError
from microservice_governance.errors import InvalidSettingsError
from microservice_governance.events import Listener
from microservice_governance.named_exceptions import KNOWN_EXCEPTIONS

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
    """Pipelines by name: `registry.get("payments")`.

    Settings are a mapping with two parts:

    ```
    bases:
      http: {timeout: {seconds: 3}}                # changes or adds a base
    services:
      payments: {base: http, circuit_breaker: {open_seconds: 5}, retry: {enabled: false}}
    ```

    A service has all that its base has, and differs in what it names itself. The bases `http`,
    `database` and `consumer` are there from the start; a service without `base` has none.
    Exceptions are given by name: those of the standard library that concern calls, and `errors`.

    Args:
        settings: to begin with.
        errors: further exception types that settings may name.
        max_services: how many pipelines there may be.
        clock: monotonic seconds, for all policies.

    Raises:
        InvalidSettingsError: the settings break a rule; the message says where.
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
        self._asked_bases: dict[str, str] = {}
        self._listeners: tuple[Listener, ...] = ()
        self._bases, self._services = self._read(settings or {})

    def get(self, name: str, *, base: str | None = None) -> ConfiguredPipeline:
        """The pipeline of that service; the same one each time.

        Args:
            base: what holds where the settings do not name a base for this service.

        Raises:
            InvalidValueError: there is no such base, or there are too many services.
        """
        found = self._pipelines.get(name)
        if found is not None:
            return found
        with self._lock:
            if name not in self._pipelines:
                self._pipelines[name] = self._made(name, base)
            return self._pipelines[name]

    def update(self, settings: Settings) -> None:
        """Go by other settings from now on; pipelines in use follow, and keep what they know.

        Raises:
            InvalidSettingsError: the settings break a rule; nothing was changed.
        """
        with self._lock:
            before = self._bases, self._services
            self._bases, self._services = self._read(settings)
            try:
                wanted = {name: self._config(name) for name in self._pipelines}
            except InvalidValueError:
                self._bases, self._services = before
                raise
            for name, config in wanted.items():
                self._pipelines[name].reconfigure(config)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` told of the events of all pipelines, also of those to come."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
            for pipeline in self._pipelines.values():
                pipeline.subscribe(listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell that listener no more."""
        with self._lock:
            self._listeners = tuple(one for one in self._listeners if one != listener)
            for pipeline in self._pipelines.values():
                pipeline.unsubscribe(listener)

    def snapshot(self) -> dict[str, object]:
        """The snapshots of all pipelines by name."""
        return {name: pipeline.snapshot() for name, pipeline in list(self._pipelines.items())}

    def _made(self, name: str, base: str | None) -> ConfiguredPipeline:
        if len(self._pipelines) >= self._max_services:
            rule = f"one of at most {self._max_services}; name services, not calls"
            raise InvalidValueError("service", name, rule)
        if base is not None:
            self._asked_bases[name] = self._known_base(base)
        pipeline = ConfiguredPipeline(self._config(name), name=name, clock=self._clock)
        for listener in self._listeners:
            pipeline.subscribe(listener)
        return pipeline

    def _known_base(self, base: str) -> str:
        if base not in self._bases:
            raise InvalidValueError("base", base, f"one of {', '.join(sorted(self._bases))}")
        return base

    def _config(self, name: str) -> PipelineConfig:
        found = self._services.get(name)
        if found is not None:
            return found
        asked = self._asked_bases.get(name)
        return PipelineConfig() if asked is None else self._bases[self._known_base(asked)]

    def _read(
        self, settings: Settings
    ) -> tuple[dict[str, PipelineConfig], dict[str, PipelineConfig]]:
        unknown = set(settings) - {"bases", "services"}
        if unknown:
            raise InvalidSettingsError(min(unknown), "is neither 'bases' nor 'services'")
        bases = {name: preset() for name, preset in _PRESETS.items()}
        for name, changes in _part(settings, "bases").items():
            bases[name] = self._merged(f"bases.{name}", bases.get(name), changes)
        services = {}
        for name, given in _part(settings, "services").items():
            changes = _mapping(f"services.{name}", given)
            base = changes.get("base", self._asked_bases.get(name))
            if base is not None and base not in bases:
                known = ", ".join(sorted(bases))
                raise InvalidSettingsError(f"services.{name}.base", f"{base!r} is none of {known}")
            own = {part: value for part, value in changes.items() if part != "base"}
            parent = None if base is None else bases[str(base)]
            services[name] = self._merged(f"services.{name}", parent, own)
        return bases, services

    def _merged(self, where: str, base: PipelineConfig | None, changes: object) -> PipelineConfig:
        merged = {} if base is None else _as_settings(base)
        for part, value in _mapping(where, changes).items():
            inherited = merged.get(part)
            both = isinstance(value, Mapping) and isinstance(inherited, Mapping)
            merged[part] = {**inherited, **value} if both else value  # type: ignore[dict-item]
        try:
            return PipelineConfig.model_validate(merged, context={"errors": self._errors})
        except ValidationError as error:
            raise InvalidSettingsError.from_pydantic(where, error) from None


def _as_settings(config: PipelineConfig) -> dict[str, object]:
    """What was set, as it was set: defaults stay defaults, also of a service that inherits."""
    settings: dict[str, object] = {}
    for part in config.model_fields_set - {"disabled"}:
        value = getattr(config, part)
        if value is not None:
            settings[part] = {name: getattr(value, name) for name in value.model_fields_set}
    settings["disabled"] = config.disabled
    return settings


def _part(settings: Settings, name: str) -> Settings:
    return _mapping(name, settings.get(name, {}))


def _mapping(where: str, value: object) -> Settings:
    if not isinstance(value, Mapping):
        raise InvalidSettingsError(where, f"must be a mapping, not {type(value).__name__}")
    return value
