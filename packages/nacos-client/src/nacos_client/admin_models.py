"""The values that the admin API returns: documents, services, servers and users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as wire_dataclass

from ._responses import read_milliseconds
from .errors import UnexpectedAnswerError

__all__ = (
    "BetaConfig",
    "ClusterNode",
    "ConfigDetail",
    "ConfigSummary",
    "ConfigVersion",
    "ConfigVersionDetail",
    "Namespace",
    "Permission",
    "Role",
    "ServiceDetail",
    "ServiceSummary",
    "Subscriber",
    "TransferResult",
    "User",
)

T = TypeVar("T")


def _strip(value: object) -> object:
    return "" if value is None else value.strip() if isinstance(value, str) else value


def _number_to_text(value: object) -> object:
    return str(value) if isinstance(value, int) else value


def _fill_labels(value: object) -> object:
    return {} if value is None else value


def _split_tags(value: object) -> object:
    return tuple(tag for tag in str(value or "").split(",") if tag)


Moment = Annotated[datetime | None, BeforeValidator(read_milliseconds)]
Text = Annotated[str, BeforeValidator(_strip)]
Id = Annotated[str, BeforeValidator(_number_to_text)]
Labels = Annotated[Mapping[str, str], BeforeValidator(_fill_labels)]
Tags = Annotated[tuple[str, ...], BeforeValidator(_split_tags)]

_ALIASES = {
    "namespace": "namespaceId",
    "group": "groupName",
    "created": "createTime",
    "last_modified": "modifyTime",
    "operation": "opType",
    "publish_type": "publishType",
    "description": "desc",
    "content_type": "type",
    "version_id": "id",
    "config_id": "id",
    "app": "appName",
    "tags": "configTags",
    "source_ip": "srcIp",
    "source_user": "srcUser",
}


def _to_alias(name: str) -> str:
    return _ALIASES.get(name) or to_camel(name)


_WIRE = ConfigDict(alias_generator=_to_alias, populate_by_name=True, extra="ignore")


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ConfigSummary:
    """A document in the result of a search, without its content."""

    config_id: Id
    data_id: str
    group: str
    namespace: str
    md5: Text = ""
    content_type: Text = ""
    app: Text = ""


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ConfigDetail:
    """A document in the database; the server decrypts it where it can."""

    config_id: Id
    data_id: str
    group: str
    namespace: str
    content: Text
    md5: Text = ""
    content_type: Text = ""
    description: Text = ""
    tags: Tags = ()
    app: Text = ""
    created: Moment = None
    last_modified: Moment = None
    create_user: Text = ""
    create_ip: Text = ""
    encrypted_data_key: Text = ""

    def __repr__(self) -> str:
        return (
            f"ConfigDetail(data_id={self.data_id!r}, group={self.group!r}, "
            f"namespace={self.namespace!r}, md5={self.md5!r}, "
            f"content=<{len(self.content)} characters>)"
        )


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class BetaConfig:
    """The beta version of a document.

    Attributes:
        beta_ips: the addresses of the clients that see it.
    """

    data_id: str
    group: str
    namespace: str
    content: Text
    md5: Text = ""
    gray_rule: Text = ""

    @property
    def beta_ips(self) -> tuple[str, ...]:
        """The addresses of the clients that see it."""
        try:
            expression = json.loads(self.gray_rule).get("expr", "")
        except (ValueError, AttributeError):
            return ()
        return tuple(ip.strip() for ip in str(expression).split(",") if ip.strip())

    def __repr__(self) -> str:
        return f"BetaConfig(data_id={self.data_id!r}, beta_ips={self.beta_ips!r})"


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ConfigVersion:
    """One entry of a document's history.

    Attributes:
        operation: `I` created, `U` updated, `D` deleted.
        publish_type: `formal`, or `gray` for beta and tag versions.
    """

    version_id: Id
    data_id: str
    group: str
    namespace: str
    operation: Text = ""
    publish_type: Text = ""
    last_modified: Moment = None
    source_ip: Text = ""
    source_user: Text = ""
    app: Text = ""


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ConfigVersionDetail:
    """One entry of a document's history with its content.

    Nacos records the content *before* an update or a deletion, and for a creation the new content.
    """

    version_id: Id
    data_id: str
    group: str
    namespace: str
    content: Text
    md5: Text = ""
    operation: Text = ""
    publish_type: Text = ""
    last_modified: Moment = None
    source_ip: Text = ""
    source_user: Text = ""
    app: Text = ""
    encrypted_data_key: Text = ""
    ext_info: Text = ""

    @property
    def content_type(self) -> str:
        """The content type of the version; empty when the server did not record it."""
        try:
            return str(json.loads(self.ext_info).get("type") or "")
        except (ValueError, AttributeError):
            return ""

    def __repr__(self) -> str:
        return (
            f"ConfigVersionDetail(version_id={self.version_id!r}, data_id={self.data_id!r}, "
            f"operation={self.operation!r}, md5={self.md5!r})"
        )


@dataclass(frozen=True, slots=True)
class TransferResult:
    """The result of an import or a clone.

    Attributes:
        succeeded, skipped: numbers of documents.
        failed: existing documents that prevented the rest, as `group/data_id`.
    """

    succeeded: int
    skipped: int
    failed: tuple[str, ...] = ()


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class Namespace:
    """One namespace; clients are configured with its `namespace_id`, not its display name."""

    namespace_id: Annotated[str, BeforeValidator(_strip)]
    name: Text
    description: Text = ""
    config_count: int = 0
    quota: int = 0


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ServiceSummary:
    """A service in a list, with counts."""

    name: str
    group: str
    cluster_count: int = 0
    ip_count: int = 0
    healthy_instance_count: int = 0


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ServiceDetail:
    """A service with its metadata and clusters."""

    service_name: str
    group: str
    namespace: Text = ""
    ephemeral: bool = True
    protect_threshold: float = 0.0
    metadata: Labels = None  # type: ignore[assignment]
    cluster_map: Annotated[Mapping[str, Any], BeforeValidator(_fill_labels)] = None  # type: ignore[assignment]

    @property
    def clusters(self) -> tuple[str, ...]:
        """The names of its clusters, sorted."""
        return tuple(sorted(self.cluster_map))


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class Subscriber:
    """A subscriber of a service; the server knows gRPC clients only."""

    service_name: Text = ""
    group: Text = ""
    ip: Text = ""
    port: int = 0
    agent: Text = ""
    app: Text = ""


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ClusterNode:
    """One server of the cluster; `state` is `UP`, `SUSPICIOUS`, `DOWN` or `STARTING`."""

    ip: str
    port: int
    state: str
    address: str


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class User:
    """One user; the hash of the password, which the server sends, is dropped."""

    username: str


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class Role:
    """One user's role."""

    role: str
    username: str


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class Permission:
    """A permission of a role; `action` is `r`, `w` or `rw`."""

    role: str
    resource: str
    action: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list."""

    items: tuple[T, ...]
    last: bool


_READERS: dict[type, TypeAdapter[Any]] = {}


def _get_reader(model: type[T]) -> TypeAdapter[T]:
    # Built at the first use: most programs never administer anything.
    if model not in _READERS:
        _READERS[model] = TypeAdapter(model)
    return _READERS[model]


def read(model: type[T], data: object, operation: str) -> T:
    """A value from a response's data.

    Raises:
        UnexpectedAnswerError: the data has another shape.
    """
    try:
        return _get_reader(model).validate_python(data)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        detail = f"{model.__name__}.{field}: {first['msg']}"
        raise UnexpectedAnswerError(operation, status=200, detail=detail) from None


def read_page(model: type[T], data: object, operation: str) -> Page[T]:
    """One page of values from a response's data.

    Raises:
        UnexpectedAnswerError: the data has another shape.
    """
    if not isinstance(data, dict) or not isinstance(data.get("pageItems"), list):
        raise UnexpectedAnswerError(operation, status=200, detail="data is not a page")
    items = tuple(read(model, item, operation) for item in data["pageItems"])
    last = not items or data.get("pageNumber", 1) >= data.get("pagesAvailable", 1)
    return Page(items, last)
