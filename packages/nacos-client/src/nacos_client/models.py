"""The values that the client returns: documents, instances, registrations, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from datetime import datetime

__all__ = (
    "BeatStatus",
    "Config",
    "ConfigDeleted",
    "ConfigSource",
    "Instance",
    "InstanceList",
    "Registration",
    "WatchStatus",
)

ConfigSource = Literal["server", "snapshot", "failover"]

EMPTY_METADATA: Mapping[str, str] = MappingProxyType({})


def _empty_metadata() -> Mapping[str, str]:
    return EMPTY_METADATA


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration document.

    Attributes:
        md5: the server's hash of the content; of the cipher text when it is encrypted.
        content_type: `text`, `json`, `yaml`, `properties`, `xml`, `html` or `toml`.
        last_modified: when it was published, in UTC.
        beta: it is a beta version, visible to some addresses only.
        encrypted_data_key: the wrapped key of an encrypted document, else empty.
        source: `server`, or `snapshot` or `failover` for a local copy.
    """

    data_id: str
    group: str
    namespace: str
    content: str
    md5: str
    content_type: str = "text"
    last_modified: datetime | None = None
    beta: bool = False
    encrypted_data_key: str = ""
    source: ConfigSource = "server"

    def __repr__(self) -> str:
        # Content may hold secrets: it never shows up in a log by accident.
        return (
            f"Config(data_id={self.data_id!r}, group={self.group!r}, "
            f"namespace={self.namespace!r}, md5={self.md5!r}, source={self.source!r}, "
            f"content=<{len(self.content)} characters>)"
        )


@dataclass(frozen=True, slots=True)
class ConfigDeleted:
    """The document does not exist, or no longer; confirmed by a second read."""

    data_id: str
    group: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a service as the server lists it.

    Attributes:
        weight: its share of the traffic, 0 to 10000; 0 gets none.
        healthy: its heartbeats reach the server in time, or its health check passes.
        enabled: False when an operator has taken it out.
        ephemeral: the server drops it when its heartbeats end.
    """

    service: str
    ip: str
    port: int
    weight: float = 1.0
    healthy: bool = True
    enabled: bool = True
    ephemeral: bool = True
    metadata: Mapping[str, str] = field(default_factory=_empty_metadata, hash=False)
    cluster: str = "DEFAULT"
    group: str = "DEFAULT_GROUP"
    namespace: str = "public"

    @property
    def address(self) -> str:
        """`ip:port`, with an IPv6 address in brackets."""
        ip = self.ip.strip("[]")
        return f"[{ip}]:{self.port}" if ":" in ip else f"{ip}:{self.port}"

    @property
    def usable(self) -> bool:
        """Whether it should get traffic: healthy, enabled and of a weight above 0."""
        return self.healthy and self.enabled and self.weight > 0


@dataclass(frozen=True, slots=True)
class InstanceList(Sequence[Instance]):
    """The instances of a service, as a sequence.

    Attributes:
        added, removed: the differences to this listener's previous call.
        changed: the new state of instances whose weight, health or metadata differ.
        stale: no server gives a credible list; this is the last good one.
        age_seconds: the age of a stale list; 0.0 for a fresh one.
    """

    service: str
    group: str
    namespace: str
    instances: tuple[Instance, ...] = ()
    added: tuple[Instance, ...] = ()
    removed: tuple[Instance, ...] = ()
    changed: tuple[Instance, ...] = ()
    stale: bool = False
    age_seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.instances)

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Instance, ...]: ...
    def __getitem__(self, index: int | slice) -> Instance | tuple[Instance, ...]:
        return self.instances[index]


@dataclass(frozen=True, slots=True)
class Registration:
    """An instance as registered by this client; kept alive until deregistered or closed."""

    service: str
    ip: str
    port: int
    weight: float = 1.0
    enabled: bool = True
    ephemeral: bool = True
    metadata: Mapping[str, str] = field(default_factory=_empty_metadata, hash=False)
    cluster: str = "DEFAULT"
    group: str = "DEFAULT_GROUP"
    namespace: str = "public"

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What identifies an instance for the server: not its cluster, which a change replaces."""
        return (self.namespace, self.group, self.service, self.ip, self.port)


@dataclass(frozen=True, slots=True)
class BeatStatus:
    """Statistics of the heartbeats of one client.

    Attributes:
        instances: the number of instances that are kept alive.
        sent, failed: beats since the client was made.
        reregistered: how many times the server had forgotten an instance.
        worst_lag_seconds: the longest delay of a beat after it was due.
    """

    instances: int
    sent: int
    failed: int
    reregistered: int
    worst_lag_seconds: float


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """Statistics of the watches of one client, of documents or of services.

    Attributes:
        watched: the number of documents or services that are polled.
        failing: those of them whose last poll failed.
    """

    watched: int
    failing: int
