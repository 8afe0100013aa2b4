"""The keyword arguments that every kind of module takes, for editors and type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pydantic import SecretStr

from microservice_core import ConfigCenter, ServiceRegistry

from .calls.lanes import LaneMode
from .config.encryption import KeyProvider
from .outages import OnUnavailable

if TYPE_CHECKING:
    from microservice_client import (
        FallbackResponse,
        Interceptor,
        RequestInterceptor,
        ServicePolicy,
    )

    from .calls.lazy_client import Transport

__all__ = ("ModuleOptions", "RegistryOptions", "SettingsOptions")


class SettingsOptions(TypedDict, total=False):
    """Every field of `MicroserviceSettings` but the two providers; the environment fills the rest.

    Attributes:
        settings_file: a TOML, JSON or YAML file of settings, below the environment.
    """

    settings_file: str | Path | None
    service_name: str
    host: str
    port: int | None
    version: str
    lane: str
    zone: str
    weight: float
    metadata: Mapping[str, str]
    group_name: str
    namespace_id: str
    config_center_settings: Mapping[str, object]
    service_registry_settings: Mapping[str, object]
    documents: Sequence[str]
    profiles: Sequence[str]
    on_config_unavailable: OnUnavailable
    config_wait_seconds: float
    config_snapshot: str | Path | None
    env_prefix: str
    on_registry_unavailable: OnUnavailable
    registry_wait_seconds: float
    warm_up_seconds: float
    health_seconds: float
    leave_seconds: float
    instance_metrics: bool
    redis_url: str | SecretStr
    management_token: str | SecretStr
    status_page: bool


class RegistryOptions(SettingsOptions, total=False):
    """The options of a module with a registry.

    Attributes:
        lanes: select instances of the current lane, `permissive` or `strict`; needs the extra
            `lanes`. None ignores lanes.
        policies: behaviour of calls by service name, while the configuration has no `calls`.
        default_policy: that of all other services.
        fallbacks: replace the response of a failed call, by service name.
        interceptors: run around each call, in order, inside those of lanes.
        transport: carries every call in place of connections; a `FakeMesh` in a test.
        register: False keeps a service with a name and a port unregistered.
    """

    lanes: LaneMode | None
    policies: Mapping[str, ServicePolicy] | None
    default_policy: ServicePolicy | None
    fallbacks: Mapping[str, FallbackResponse]
    interceptors: Sequence[Interceptor | RequestInterceptor]
    transport: Transport | None
    register: bool


class ModuleOptions(RegistryOptions, total=False):
    """The options of a `MicroserviceModule` and a `Microservice`.

    Attributes:
        config_center: the name of an installed provider, or an object that is one.
        service_registry: the same for the registry; it also enables `module.service_client`.
        config_keys: returns the keys of `ENC(...)` values; by default the environment does.
    """

    config_center: str | ConfigCenter | None
    service_registry: str | ServiceRegistry | None
    config_keys: KeyProvider | None
