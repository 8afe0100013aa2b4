"""The value types that come out of the client: documents, instances, registrations."""

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
)

ConfigSource = Literal["server", "snapshot", "failover"]

EMPTY: Mapping[str, str] = MappingProxyType({})


def _no_labels() -> Mapping[str, str]:
    return EMPTY


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration document.

    Attributes:
        md5: the server's fingerprint; of the cipher text when the document is encrypted.
        content_type: `text`, `json`, `yaml`, `properties`, `xml`, `html` or `toml`.
        last_modified: when it was published, in UTC.
        beta: this machine sees a beta version that others may not see.
        encrypted_data_key: the wrapped key of an encrypted document, else empty.
        source: `server`, or where the content came from while no server answered.
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
    """There is no such document (any more); confirmed by a second read."""

    data_id: str
    group: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a service as the server lists it.

    Attributes:
        weight: 0 to 10000; 0 takes no traffic.
        healthy: the server got its beats in time, or its health check passed.
        enabled: an operator has not taken it out.
        ephemeral: it lives only as long as it beats.
    """

    service: str
    ip: str
    port: int
    weight: float = 1.0
    healthy: bool = True
    enabled: bool = True
    ephemeral: bool = True
    metadata: Mapping[str, str] = field(default_factory=_no_labels, hash=False)
    cluster: str = "DEFAULT"
    group: str = "DEFAULT_GROUP"
    namespace: str = "public"

    @property
    def address(self) -> str:
        """`ip:port`, with an IPv6 address in brackets."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @property
    def usable(self) -> bool:
        """Whether it should get traffic: healthy, enabled and of some weight."""
        return self.healthy and self.enabled and self.weight > 0


@dataclass(frozen=True, slots=True)
class InstanceList(Sequence[Instance]):
    """The instances of a service; itself the sequence of those present.

    Attributes:
        added, removed: what came and went since this listener's last call.
        changed: the new state of those whose weight, health or metadata differ.
        stale: the server gave no answer to trust, and this is the last good list.
        age_seconds: how old the list is; 0.0 when fresh.
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
    """What was registered, and is kept alive until it is deregistered or the client closes."""

    service: str
    ip: str
    port: int
    weight: float = 1.0
    enabled: bool = True
    ephemeral: bool = True
    metadata: Mapping[str, str] = field(default_factory=_no_labels, hash=False)
    cluster: str = "DEFAULT"
    group: str = "DEFAULT_GROUP"
    namespace: str = "public"

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What the server tells instances apart by: no cluster, see the reference on clients."""
        return (self.namespace, self.group, self.service, self.ip, self.port)


@dataclass(frozen=True, slots=True)
class BeatStatus:
    """How the heartbeats of this client fare.

    Attributes:
        instances: how many are kept alive.
        sent, failed: beats since the client began.
        reregistered: how often the server had forgotten an instance.
        worst_lag_seconds: the longest a beat started after its time.
    """

    instances: int
    sent: int
    failed: int
    reregistered: int
    worst_lag_seconds: float
