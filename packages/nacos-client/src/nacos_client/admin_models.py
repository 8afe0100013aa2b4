"""What the admin API tells about documents, services, servers and users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as wire_dataclass

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


def _moment(value: object) -> datetime | None:
    from ._config import moment

    return moment(value)


def _text(value: object) -> object:
    return "" if value is None else value.strip() if isinstance(value, str) else value


def _text_of_number(value: object) -> object:
    return str(value) if isinstance(value, int) else value


def _labels(value: object) -> object:
    return {} if value is None else value


def _tags(value: object) -> object:
    return tuple(tag for tag in str(value or "").split(",") if tag)


Moment = Annotated[datetime | None, BeforeValidator(_moment)]
Text = Annotated[str, BeforeValidator(_text)]
Id = Annotated[str, BeforeValidator(_text_of_number)]
Labels = Annotated[Mapping[str, str], BeforeValidator(_labels)]
Tags = Annotated[tuple[str, ...], BeforeValidator(_tags)]

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


def _alias(name: str) -> str:
    return _ALIASES.get(name) or to_camel(name)


_WIRE = ConfigDict(alias_generator=_alias, populate_by_name=True, extra="ignore")


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ConfigSummary:
    """A document as searches list it: without content."""

    config_id: Id
    data_id: str
    group: str
    namespace: str
    md5: Text = ""
    content_type: Text = ""
    app: Text = ""


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ConfigDetail:
    """A document as the database has it; decrypted by the server where it can."""

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
        beta_ips: who sees it.
    """

    data_id: str
    group: str
    namespace: str
    content: Text
    md5: Text = ""
    gray_rule: Text = ""

    @property
    def beta_ips(self) -> tuple[str, ...]:
        """The addresses of the rule."""
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

    Nacos records what was there *before* an update or a deletion, and the content itself for a
    creation.
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
        """The type it had; empty when the server did not record it."""
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
    """What an import or a clone did.

    Attributes:
        succeeded, skipped: how many documents.
        failed: those that were in the way, as `group/data_id`.
    """

    succeeded: int
    skipped: int
    failed: tuple[str, ...] = ()


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class Namespace:
    """One namespace; `namespace_id` is what clients are given, not the display name."""

    namespace_id: Annotated[str, BeforeValidator(_text)]
    name: Text
    description: Text = ""
    config_count: int = 0
    quota: int = 0


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ServiceSummary:
    """One service as lists show it."""

    name: str
    group: str
    cluster_count: int = 0
    ip_count: int = 0
    healthy_instance_count: int = 0


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class ServiceDetail:
    """One service."""

    service_name: str
    group: str
    namespace: Text = ""
    ephemeral: bool = True
    protect_threshold: float = 0.0
    metadata: Labels = None  # type: ignore[assignment]
    cluster_map: Annotated[Mapping[str, Any], BeforeValidator(_labels)] = None  # type: ignore[assignment]

    @property
    def clusters(self) -> tuple[str, ...]:
        """The names of its clusters, sorted."""
        return tuple(sorted(self.cluster_map))


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class Subscriber:
    """Who subscribes to a service; only gRPC clients are known to the server."""

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
    """One user; the password's hash, which the server sends along, is dropped."""

    username: str


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class Role:
    """One user's role."""

    role: str
    username: str


@wire_dataclass(frozen=True, slots=True, config=_WIRE)
class Permission:
    """What a role may do: `action` is `r`, `w` or `rw`."""

    role: str
    resource: str
    action: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list."""

    items: tuple[T, ...]
    last: bool


_READERS: dict[type, TypeAdapter[Any]] = {}


def _reader(wanted: type[T]) -> TypeAdapter[T]:
    # Made at the first use: most programs never administer anything.
    if wanted not in _READERS:
        _READERS[wanted] = TypeAdapter(wanted)
    return _READERS[wanted]


def read(wanted: type[T], data: object, operation: str) -> T:
    """The value in an answer's data.

    Raises:
        UnexpectedAnswerError: the data has another shape.
    """
    try:
        return _reader(wanted).validate_python(data)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        detail = f"{wanted.__name__}.{where}: {first['msg']}"
        raise UnexpectedAnswerError(operation, status=200, detail=detail) from None


def read_page(wanted: type[T], data: object, operation: str) -> Page[T]:
    """One page of values.

    Raises:
        UnexpectedAnswerError: the data has another shape.
    """
    if not isinstance(data, dict) or not isinstance(data.get("pageItems"), list):
        raise UnexpectedAnswerError(operation, status=200, detail="data is not a page")
    items = tuple(read(wanted, item, operation) for item in data["pageItems"])
    last = not items or data.get("pageNumber", 1) >= data.get("pagesAvailable", 1)
    return Page(items, last)
