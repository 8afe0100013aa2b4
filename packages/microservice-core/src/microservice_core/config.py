"""What a configuration center is: documents, the port every provider satisfies, what more it may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from .registry import Unsubscribe

__all__ = (
    "ConfigCenter",
    "ConfigDeleted",
    "ConfigHistory",
    "ConfigListener",
    "ConfigPublisher",
    "ConfigResult",
    "ConfigVersion",
    "content_type_of",
    "md5_of",
)


@dataclass(frozen=True, slots=True)
class ConfigResult:
    """One document as the configuration center has it.

    Attributes:
        md5: the provider's fingerprint of the content; equal fingerprint = no change.
        last_modified: when it was published, if the provider knows; two results that differ in
            nothing else are equal.
        content_type: `text`, `json`, `yaml`, `toml`, `properties`, `xml` or `html`.
    """

    content: str
    md5: str
    last_modified: datetime | None = field(compare=False)
    content_type: str
    data_id: str
    group_name: str
    namespace_id: str

    def __repr__(self) -> str:
        # The content may hold secrets: it never shows up in a log by accident.
        return (
            f"ConfigResult(data_id={self.data_id!r}, group_name={self.group_name!r}, "
            f"namespace_id={self.namespace_id!r}, md5={self.md5!r}, "
            f"content_type={self.content_type!r}, content=<{len(self.content)} characters>)"
        )


@dataclass(frozen=True, slots=True)
class ConfigDeleted:
    """The document does not exist (any more)."""

    data_id: str
    group_name: str
    namespace_id: str


@dataclass(frozen=True, slots=True)
class ConfigVersion:
    """One earlier version of a document."""

    version_id: str
    md5: str
    last_modified: datetime | None


ConfigListener = Callable[[ConfigResult | ConfigDeleted], Awaitable[None] | None]


class ConfigCenter(Protocol):
    """Where documents are kept and watched.

    Empty `group_name` and `namespace_id` mean the provider's default. It is used from one event
    loop. Failures raise `ConfigCenterError`.
    """

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """The document now.

        Raises:
            ConfigNotFoundError: there is none.
        """
        ...

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener once with the present state, then on each change.

        A missing or deleted document is a `ConfigDeleted`. The listener may be plain or async,
        sees the newest state, and never runs twice at once; one that raises is logged. The
        returned callable ends the watch and may be called twice.
        """
        ...

    async def close(self) -> None:
        """End every watch and join what was started."""
        ...


@runtime_checkable
class ConfigPublisher(Protocol):
    """A configuration center that can be written to."""

    async def publish_config(
        self,
        data_id: str,
        content: str,
        group_name: str = "",
        namespace_id: str = "",
        *,
        content_type: str = "",
        expected_md5: str | None = None,
    ) -> None:
        """Create or replace the document.

        Args:
            content_type: guessed from the data id's ending when empty.
            expected_md5: publish only on top of the version with this fingerprint.

        Raises:
            ConfigConflictError: another version is there.
        """
        ...

    async def delete_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Remove the document; one that is not there is no error."""
        ...


@runtime_checkable
class ConfigHistory(Protocol):
    """A configuration center that remembers earlier versions."""

    async def config_versions(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> Sequence[ConfigVersion]:
        """The versions known, newest first."""
        ...

    async def restore_config(
        self, data_id: str, version_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Publish that version again.

        Raises:
            ConfigNotFoundError: there is no such version.
        """
        ...


_CONTENT_TYPES = {
    "yaml": "yaml",
    "yml": "yaml",
    "json": "json",
    "toml": "toml",
    "properties": "properties",
    "xml": "xml",
    "html": "html",
}


def content_type_of(data_id: str) -> str:
    """The content type a data id's ending stands for; `text` when it says nothing."""
    return _CONTENT_TYPES.get(data_id.rpartition(".")[2].lower(), "text")


def md5_of(content: str) -> str:
    """Lower-case hex md5 of the UTF-8 bytes, as Nacos computes it; a fingerprint, no protection."""
    import hashlib  # costs as much as the rest of this module: not at import

    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
