"""Publish and administer; needs a user with admin permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nacos_client._core import Core
    from nacos_client._transport import AsyncRunner

__all__ = ("AsyncAdminApi",)


class AsyncAdminApi:
    """`nacos.admin`. `group` and `namespace` default to the client's."""

    def __init__(self, core: Core, runner: AsyncRunner) -> None:
        self._core = core
        self._runner = runner

    async def publish(
        self,
        data_id: str,
        content: str,
        *,
        group: str | None = None,
        namespace: str | None = None,
        type: str | None = None,  # noqa: A002 - Nacos' name for it
        cas_md5: str | None = None,
    ) -> None:
        """Create or replace a document; readers see it some 50 ms later.

        `type` is `text`, `json`, `xml`, `yaml`, `html`, `properties` or `toml`; without one, what
        the data id's ending says. With `cas_md5` it is published only on top of that version.

        Raises:
            ConflictError: another version is there.
        """
        key = self._core.config_key(data_id, group, namespace)
        await self._runner.run(self._core.publish(key, content, type, cas_md5))

    async def delete(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> None:
        """Delete a document; one that is not there is no error."""
        key = self._core.config_key(data_id, group, namespace)
        await self._runner.run(self._core.delete(key))
