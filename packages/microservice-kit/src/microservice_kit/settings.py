"""What a microservice has to be told: by keyword, by `MICROSERVICE_*` in the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from microservice_core import ConfigResult, InvalidValueError, content_type_of

from .config.parsing import deep_merge, parse

__all__ = ("MicroserviceSettings", "read_settings")

SETTINGS_FILE = "MICROSERVICE_SETTINGS_FILE"


class MicroserviceSettings(BaseSettings):
    """One service's settings; keyword arguments win over the environment.

    Attributes:
        service_name: the name it registers under; also names its configuration document.
        host: the address others reach it at; detected when empty.
        port: the port it listens on; without one it does not register.
        version, lane, zone: labels others choose it by; a lane is a DNS label (RFC 1035).
        weight: its share of the traffic, above 0.
        metadata: further labels.
        group_name, namespace_id: where it registers and reads; empty = the provider's default.
        documents: data ids to merge, a later one wins; `<service_name>.yaml` when empty.
        profiles: each document is followed by its variant for each: `app.yaml`, `app-dev.yaml`.
        on_config_unavailable: when the configuration center cannot be read at the start, `fail`,
            `wait` up to `config_wait_seconds`, or `degrade`: begin with the snapshot or defaults.
        config_snapshot: a file that keeps the documents seen last for that.
        env_prefix: environment variables with it fill the configuration model.
        on_registry_unavailable: when the registry cannot be told at the start, `fail`, `wait` up to
            `registry_wait_seconds`, or `degrade`: start, and go on trying.
        warm_up_seconds: how long a new instance takes less than its share of the traffic.
        health_seconds: how often health is looked at to take the instance out and back in.
        leave_seconds: how long callers get to learn that the instance has left, before it stops.
        instance_metrics: count calls by instance of the called service, too, and show who is well.
        redis_url: a Redis that the service needs; `/health` shows whether it answers.
        management_token: shows the details of `/health` to who sends it as a bearer token.
        status_page: serve `/microservice` in an ASGI application, to who has `management_token`.
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
    on_config_unavailable: Literal["fail", "wait", "degrade"] = "fail"
    config_wait_seconds: float = Field(default=60.0, gt=0)
    config_snapshot: Path | None = None
    env_prefix: str = "APP_"
    on_registry_unavailable: Literal["fail", "wait", "degrade"] = "fail"
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
    def _finite(cls, weight: float) -> float:
        if not math.isfinite(weight):
            raise ValueError("must be a finite number")
        return weight


def read_settings(given: Mapping[str, object]) -> MicroserviceSettings:
    """The settings from what was given, the environment, and the file that `settings_file` names.

    The file is TOML, JSON or YAML; `MICROSERVICE_SETTINGS_FILE` names it as well.

    Raises:
        InvalidValueError: the first field that breaks a rule, with its rule.
    """
    told = {name: value for name, value in given.items() if value is not None}
    file = told.pop("settings_file", None) or os.environ.get(SETTINGS_FILE)
    written = _from_file(Path(str(file))) if file else {}
    try:
        environment = EnvSettingsSource(MicroserviceSettings)()
        return MicroserviceSettings(**deep_merge(deep_merge(written, environment), told))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        rule = first["msg"][:1].lower() + first["msg"][1:]
        raise InvalidValueError(field, first.get("input"), f"valid ({rule})") from None


def _from_file(path: Path) -> Mapping[str, object]:
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidValueError(
            "settings_file", str(path), f"a readable file ({error.strerror})"
        ) from error
    name = path.name
    return parse(ConfigResult(content, "", None, content_type_of(name), name, "", ""))
