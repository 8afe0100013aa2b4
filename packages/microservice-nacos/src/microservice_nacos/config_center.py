"""Nacos as a configuration center."""

from __future__ import annotations

from microservice_core import (
    ConfigDeleted,
    ConfigListener,
    ConfigResult,
    Unsubscribe,
    Watchers,
    content_type_of,
)
from nacos_client import AsyncNacosClient, Config
from nacos_client import ConfigDeleted as NacosConfigDeleted

from .errors import translate_config_errors

__all__ = ("NacosConfigCenter",)

DocumentKey = tuple[str, str, str]
DocumentState = ConfigResult | ConfigDeleted


class NacosConfigCenter:
    """The port `ConfigCenter` on a nacos-client; also a `ConfigPublisher`.

    Args:
        client: stays open when the configuration center is closed.
    """

    def __init__(self, client: AsyncNacosClient) -> None:
        self._client = client
        self._watchers: Watchers[DocumentKey, DocumentState] = Watchers()

    @property
    def server_address(self) -> str:
        """The server in use."""
        return self._client.server_in_use

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """Read a document.

        Raises:
            ConfigNotFoundError: it does not exist.
            ConfigCenterAccessDeniedError: user, password or permission.
            ConfigCenterUnavailableError: no server responded.
            InvalidValueError: Nacos allows no such name.
        """
        with translate_config_errors("get_config", data_id):
            config = await self._client.config.get(
                data_id, group=group_name or None, namespace=namespace_id or None
            )
        return _convert_config(config)

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener with the present state, then on each change.

        Raises:
            InvalidValueError: Nacos allows no such name.
        """
        delivery, remove_delivery = self._watchers.add(
            (namespace_id, group_name, data_id), listener
        )
        try:
            with translate_config_errors("watch_config", data_id):
                stop_watch = self._client.config.watch(
                    data_id,
                    lambda config: delivery.notify(_convert_config(config)),
                    on_deleted=lambda deletion: delivery.notify(_convert_deletion(deletion)),
                    group=group_name or None,
                    namespace=namespace_id or None,
                )
        except BaseException:
            remove_delivery()
            raise

        def unsubscribe() -> None:
            stop_watch()
            remove_delivery()

        return unsubscribe

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
        """Create or replace the document; needs a user with admin permissions.

        Raises:
            ConfigConflictError: the present version is another than `expected_md5`.
            ConfigCenterAccessDeniedError: user, password or permission.
            ConfigCenterUnavailableError: no server responded.
        """
        with translate_config_errors("publish_config", data_id):
            await self._client.admin.publish(
                data_id,
                content,
                group=group_name or None,
                namespace=namespace_id or None,
                type=content_type or content_type_of(data_id),
                cas_md5=expected_md5,
            )

    async def delete_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> None:
        """Delete the document; an absent one is no error. Needs admin permissions.

        Raises:
            ConfigCenterAccessDeniedError: user, password or permission.
            ConfigCenterUnavailableError: no server responded.
        """
        with translate_config_errors("delete_config", data_id):
            await self._client.admin.delete(
                data_id, group=group_name or None, namespace=namespace_id or None
            )

    async def close(self) -> None:
        """End every watch; the client stays open."""
        await self._watchers.aclose()


def _convert_config(config: Config) -> ConfigResult:
    return ConfigResult(
        content=config.content,
        md5=config.md5,
        last_modified=config.last_modified,
        content_type=config.content_type,
        data_id=config.data_id,
        group_name=config.group,
        namespace_id=config.namespace,
    )


def _convert_deletion(deletion: NacosConfigDeleted) -> ConfigDeleted:
    return ConfigDeleted(deletion.data_id, deletion.group, deletion.namespace)
