"""The settings of a client, by keyword or by `NACOS_*` environment variables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypedDict

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from ._snapshots import find_default_snapshot_dir
from ._validation import validate_group, validate_namespace
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    import httpx

    from .ciphers import ConfigCipher
    from .credentials import CredentialProvider

__all__ = ("ClientOptions", "Settings")

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class ClientOptions(TypedDict, total=False):
    """Keyword arguments of NacosClient and AsyncNacosClient; see `Settings` for their meaning."""

    username: str
    password: str
    namespace: str
    group: str
    credentials: CredentialProvider
    endpoint: str
    context_path: str
    tls: bool
    ca_file: str
    cert_file: str
    key_file: str
    tls_verify: bool
    trust_env: bool
    transport: (
        httpx.BaseTransport
        | httpx.AsyncBaseTransport
        | Callable[[], httpx.BaseTransport | httpx.AsyncBaseTransport]
    )
    timeout_seconds: float
    attempt_seconds: float
    connect_seconds: float
    server_rest_seconds: float
    config_poll_seconds: float
    instance_poll_seconds: float
    quiet_poll_seconds: float
    empty_hold_seconds: float
    login_attempts: int
    app_name: str
    snapshot_dir: str
    failover_dir: str
    ciphers: Sequence[ConfigCipher]
    config_sweep: bool


class Settings(BaseModel):
    """All settings of a client, checked. Durations are seconds.

    Attributes:
        server_addr: `host:port` or URLs; several separated by commas. Environment:
            `NACOS_SERVER_ADDR`, and for the others likewise `NACOS_` and the name in capitals.
        endpoint: an address server, which lists the Nacos servers; instead of `server_addr`.
        namespace: the namespace's id; empty means `public`.
        timeout_seconds: for a whole operation, retries included.
        attempt_seconds: for one attempt on one server.
        server_rest_seconds: how long a server that failed is skipped.
        config_poll_seconds, instance_poll_seconds: the longest time until a change is seen.
        quiet_poll_seconds: the longest time until a change is seen of an instance list that has not
            changed in 12 polls: the pause then doubles from poll to poll up to this, until the next
            change or failure. By default `instance_poll_seconds`, so that no list is polled less.
        empty_hold_seconds: how long an empty instance list is ignored after an outage.
        login_attempts: attempts before a refusal of the credentials is final; a server that has
            just started refuses correct ones for some seconds.
        snapshot_dir: where copies of documents are kept for outages; the user's cache folder
            (XDG_CACHE_HOME) by default, empty for no copies.
        failover_dir: documents placed by an operator as `namespace/group/data_id`; they take
            precedence over the server's.
        ciphers: see `nacos_client.ciphers`.
        config_sweep: find changes of many watched documents by listing them through the admin
            API, where the user has the permission.
        trust_env: take proxies from the environment (never for loopback); a SOCKS proxy needs
            `pip install 'httpx[socks]'`.
        ca_file: the certificates that an https server's is checked against; else those of
            `SSL_CERT_FILE`, else the system's. `REQUESTS_CA_BUNDLE` is not read.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True
    )

    server_addr: tuple[str, ...] = ()
    endpoint: str = ""
    context_path: str = "/nacos"
    username: str = ""
    password: SecretStr = SecretStr("")
    credentials: Any = None
    namespace: str = "public"
    group: str = "DEFAULT_GROUP"
    app_name: str = ""
    snapshot_dir: str = "~/.cache/nacos-client"
    failover_dir: str = ""
    ciphers: Any = ()
    config_sweep: bool = True
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    tls_verify: bool = True
    trust_env: bool = True
    transport: Any = None
    timeout_seconds: Seconds = 10.0
    attempt_seconds: Seconds = 5.0
    connect_seconds: Seconds = 1.0
    server_rest_seconds: Seconds = 5.0
    config_poll_seconds: Seconds = 15.0
    instance_poll_seconds: Seconds = 5.0
    quiet_poll_seconds: Seconds | None = None
    empty_hold_seconds: Annotated[float, Field(ge=0, le=3600)] = 15.0
    login_attempts: Annotated[int, Field(ge=1, le=4)] = 4

    @field_validator("server_addr", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, Sequence):
            return tuple(p.strip() for p in parts if not isinstance(p, str) or p.strip())
        return parts

    @field_validator("transport")
    @classmethod
    def _validate_transport(cls, value: object) -> object:
        methods = ("handle_request", "handle_async_request")
        if value is None or callable(value) or any(hasattr(value, name) for name in methods):
            return value
        rule = "a transport of httpx, or a callable that makes one"
        raise InvalidArgumentError("transport", value, rule)

    @field_validator("credentials")
    @classmethod
    def _validate_credentials(cls, value: object) -> object:
        if value is None or callable(getattr(value, "headers", None)):
            return value
        rule = "a CredentialProvider, such as AccessKeyCredentials"
        raise InvalidArgumentError("credentials", "<secret>", rule)

    @field_validator("namespace")
    @classmethod
    def _validate_namespace(cls, value: str) -> str:
        return validate_namespace(value)

    @field_validator("group")
    @classmethod
    def _validate_group(cls, value: str) -> str:
        return validate_group(value)

    @classmethod
    def load(
        cls,
        server_addr: str | Sequence[str] | None,
        options: Mapping[str, object],
        environment: Mapping[str, str] | None = None,
    ) -> Settings:
        """Settings from keyword arguments, then `NACOS_*` variables, then defaults.

        Raises:
            InvalidArgumentError: a setting is illegal; the error names it and the rule.
        """
        values: dict[str, object] = {"snapshot_dir": find_default_snapshot_dir()}
        values |= _read_environment(os.environ if environment is None else environment)
        values |= {key: value for key, value in options.items() if value is not None}
        if server_addr is not None:
            values["server_addr"] = server_addr
        try:
            settings = cls.model_validate(values)
        except ValidationError as invalid:
            raise _to_argument_error(invalid) from None
        if not settings.server_addr and not settings.endpoint:
            rule = "given, here or in NACOS_SERVER_ADDR, for example 127.0.0.1:8848"
            raise InvalidArgumentError("server_addr", "nothing", rule)
        return settings


_NOT_IN_ENVIRONMENT = frozenset({"credentials", "transport", "ciphers"})
_SECRET = frozenset({"password", "credentials"})


def _read_environment(environment: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name in Settings.model_fields.keys() - _NOT_IN_ENVIRONMENT:
        value = environment.get(f"NACOS_{name.upper()}")
        if value:
            values[name] = value
    return values


def _to_argument_error(invalid: ValidationError) -> InvalidArgumentError:
    first = invalid.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "settings"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InvalidArgumentError):
        return cause
    value = "<secret>" if field in _SECRET else first["input"]
    return InvalidArgumentError(field, value, first["msg"].removeprefix("Input should be "))
