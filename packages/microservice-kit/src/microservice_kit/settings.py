"""What a microservice has to be told: by keyword, by `MICROSERVICE_*` in the environment."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from microservice_core import InvalidValueError

__all__ = ("MicroserviceSettings", "read_settings")


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
        env_prefix: environment variables with it fill the configuration model.
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
    env_prefix: str = "APP_"

    @field_validator("weight")
    @classmethod
    def _finite(cls, weight: float) -> float:
        if not math.isfinite(weight):
            raise ValueError("must be a finite number")
        return weight


def read_settings(given: Mapping[str, object]) -> MicroserviceSettings:
    """The settings from what was given and the environment.

    Raises:
        InvalidValueError: the first field that breaks a rule, with its rule.
    """
    told = {name: value for name, value in given.items() if value is not None}
    try:
        return MicroserviceSettings(**told)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        rule = first["msg"][:1].lower() + first["msg"][1:]
        raise InvalidValueError(field, first.get("input"), f"valid ({rule})") from None
