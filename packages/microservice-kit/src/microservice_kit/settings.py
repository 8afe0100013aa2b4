"""A service's settings: keyword arguments over `MICROSERVICE_*` variables over a settings file."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from microservice_core import (
    ConfigResult,
    InvalidValueError,
    content_type_of,
    find_nearest_name,
    warn_about_unknown_variables,
)

from .config.data import deep_merge
from .config.parsing import parse
from .outages import OnUnavailable

__all__ = ("MicroserviceSettings", "read_settings", "refuse_unknown_options")

_FILE_VARIABLE = "MICROSERVICE_SETTINGS_FILE"


class MicroserviceSettings(BaseSettings):
    """One service's settings; keyword arguments win over the environment.

    Attributes:
        service_name: the name to register under; it also names the configuration document.
        host: the address that other services use to reach this one; detected when empty.
        port: the port the service listens on; without one it does not register.
        version, lane, zone: labels that callers select instances by; a lane is a DNS label
            (RFC 1035).
        weight: this instance's share of the traffic relative to the others; 0 takes none.
        metadata: more labels of the instance.
        config_center: the name of the configuration center's provider; empty = none.
        config_center_settings: settings of that provider.
        service_registry: the name of the service registry's provider; empty = none.
        service_registry_settings: settings of that provider.
        group_name, namespace_id: where to register and to read configuration; empty = the
            provider's default.
        documents: data ids to merge, a later one wins; `<service_name>.yaml` when empty.
        profiles: adds a variant of each document for each profile: `app.yaml`, `app-dev.yaml`.
        on_config_unavailable: what to do at start-up while the configuration center cannot be
            read: `fail`, `wait` up to `config_wait_seconds`, or `degrade` to the snapshot or the
            defaults.
        config_wait_seconds: how long `wait` waits for the configuration center.
        config_snapshot: a file that keeps the documents read last, for `degrade`.
        env_prefix: environment variables with this prefix fill the configuration model.
        on_registry_unavailable: what to do at start-up while the registry cannot be reached:
            `fail`, `wait` up to `registry_wait_seconds`, or `degrade`: start, and keep trying.
        registry_wait_seconds: how long `wait` waits for the registry.
        warm_up_seconds: how long a new instance takes less than its share of the traffic.
        health_seconds: how often the health checks decide whether the instance takes calls.
        leave_seconds: how long callers get to notice that the instance was deregistered, before
            it stops.
        instance_metrics: also count calls by instance of the called service, and report which
            instances are healthy.
        redis_url: a Redis that the service needs; `/health` reports whether it responds.
        management_token: requests that carry it as a bearer token see the details of `/health`.
        status_page: serve `/microservice` in an ASGI application, to requests that carry the
            `management_token`.
    """

    model_config = SettingsConfigDict(
        env_prefix="MICROSERVICE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    service_name: str = ""
    host: str = ""
    port: int | None = Field(default=None, ge=1, le=65535)
    version: str = ""
    lane: str = Field(default="", pattern=r"^([a-z]([-a-z0-9]{0,61}[a-z0-9])?)?$")
    zone: str = ""
    weight: float = Field(default=1.0, ge=0)
    metadata: dict[str, str] = Field(default_factory=dict)
    group_name: str = ""
    namespace_id: str = ""
    config_center: str = ""
    config_center_settings: dict[str, object] = Field(default_factory=dict)
    service_registry: str = ""
    service_registry_settings: dict[str, object] = Field(default_factory=dict)
    documents: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    on_config_unavailable: OnUnavailable = "fail"
    config_wait_seconds: float = Field(default=60.0, gt=0)
    config_snapshot: Path | None = None
    env_prefix: str = "APP_"
    on_registry_unavailable: OnUnavailable = "fail"
    registry_wait_seconds: float = Field(default=60.0, gt=0)
    warm_up_seconds: float = Field(default=0.0, ge=0)
    health_seconds: float = Field(default=5.0, gt=0)
    leave_seconds: float = Field(default=5.0, ge=0)
    instance_metrics: bool = False
    redis_url: SecretStr = SecretStr("")
    management_token: SecretStr = SecretStr("")
    status_page: bool = False

    @field_validator("weight")
    @classmethod
    def _require_finite(cls, weight: float) -> float:
        if not math.isfinite(weight):
            raise ValueError("must be a finite number")
        return weight


_NAMES = frozenset({"settings_file", *MicroserviceSettings.model_fields})
_KEY_VARIABLE = "MICROSERVICE_CONFIG_KEY"
_VARIABLES = frozenset({_KEY_VARIABLE, *(f"MICROSERVICE_{name.upper()}" for name in _NAMES)})


def read_settings(arguments: Mapping[str, object]) -> MicroserviceSettings:
    """Merge arguments, the environment, and the file that `settings_file` names.

    The file is TOML, JSON or YAML; `MICROSERVICE_SETTINGS_FILE` may name it as well. An argument
    that is None counts as absent.

    Raises:
        InvalidValueError: the first field that breaks a rule, with its rule.
    """
    values = {name: value for name, value in arguments.items() if value is not None}
    file = values.pop("settings_file", None) or os.environ.get(_FILE_VARIABLE)
    file_values = _read_file(Path(str(file))) if file else {}
    warn_about_unknown_variables("MICROSERVICE_", _VARIABLES, known_prefixes=[f"{_KEY_VARIABLE}_"])
    try:
        environment = EnvSettingsSource(MicroserviceSettings)()
        merged = deep_merge(deep_merge(file_values, environment), values)
        return MicroserviceSettings(**merged)  # type: ignore[arg-type] # pydantic validates them
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise _unknown_name(str(first["loc"][0]), _NAMES) from None
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        rule = first["msg"][:1].lower() + first["msg"][1:]
        raise InvalidValueError(field, first.get("input"), f"valid ({rule})") from None


def refuse_unknown_options(options: Mapping[str, object], names: Collection[str]) -> None:
    """Check the names of keyword arguments.

    Args:
        names: those that are options but no settings.

    Raises:
        InvalidValueError: an argument is none of them; it names the nearest one.
    """
    known_names = {*_NAMES, *names}
    for name in options:
        if name not in known_names:
            raise _unknown_name(name, known_names)


def _unknown_name(name: str, known_names: Collection[str]) -> InvalidValueError:
    nearest = find_nearest_name(name, known_names)
    advice = f"; did you mean {nearest!r}?" if nearest else ""
    # Not the value: the name may be that of a secret.
    return InvalidValueError(name, "***", f"valid (there is no such setting{advice})")


def _read_file(path: Path) -> Mapping[str, object]:
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidValueError(
            "settings_file", str(path), f"a readable file ({error.strerror})"
        ) from error
    name = path.name
    return parse(ConfigResult(content, "", None, content_type_of(name), name, "", ""))
