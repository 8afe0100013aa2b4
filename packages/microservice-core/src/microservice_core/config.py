"""The port to configuration centers: documents, the required methods, the optional abilities."""

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
    """One document of a configuration center.

    Attributes:
        md5: the provider's fingerprint of the content; an equal fingerprint means no change.
        last_modified: when the document was published, if known. Results that differ only in this
            are equal.
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
        # The content may hold secrets: it must not get into a log by accident.
        return (
            f"ConfigResult(data_id={self.data_id!r}, group_name={self.group_name!r}, "
            f"namespace_id={self.namespace_id!r}, md5={self.md5!r}, "
            f"content_type={self.content_type!r}, content=<{len(self.content)} characters>)"
        )


@dataclass(frozen=True, slots=True)
class ConfigDeleted:
    """The document does not exist, or no longer."""

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
    """Stores documents, and reports their changes.

    An empty `group_name` or `namespace_id` means the provider's default. Use one from a single
    event loop. Failures raise `ConfigCenterError`.
    """

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """The document as it is now.

        Raises:
            ConfigNotFoundError: there is no such document.
        """
        ...

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener once with the present state, then on each change.

        A missing or deleted document is a `ConfigDeleted`. The listener may be plain or async. It
        receives the newest state, one call at a time; its exceptions are logged. The returned
        function ends the watch and may be called twice.
        """
        ...

    async def close(self) -> None:
        """End every watch, and wait for the end of everything that was started."""
        ...


@runtime_checkable
class ConfigPublisher(Protocol):
    """Optional ability of a configuration center: publish and delete documents."""

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
            content_type: if empty, derived from the extension of the data id.
            expected_md5: fingerprint of the version that may be replaced; None replaces any.

        Raises:
            ConfigConflictError: the present version has another fingerprint.
        """
        ...

    async def delete_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Delete the document; deleting a missing one is no error."""
        ...


@runtime_checkable
class ConfigHistory(Protocol):
    """Optional ability of a configuration center: list and restore earlier versions."""

    async def config_versions(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> Sequence[ConfigVersion]:
        """The versions of the document, newest first."""
        ...

    async def restore_config(
        self, data_id: str, version_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Publish an earlier version again.

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
    """The content type for the extension of a data id; `text` for an unknown one or none."""
    return _CONTENT_TYPES.get(data_id.rpartition(".")[2].lower(), "text")


def md5_of(content: str) -> str:
    """The MD5 of the UTF-8 bytes in lower-case hexadecimal, as Nacos computes it.

    A fingerprint to detect changes, not a protection against tampering.
    """
    import hashlib  # imported here: it takes as long as the rest of this module

    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
