"""Nacos as a configuration center."""

from __future__ import annotations

from microservice_core import (
    ConfigDeleted,
    ConfigListener,
    ConfigResult,
    Unsubscribe,
    content_type_of,
)
from microservice_core.delivery import Watchers
from nacos_client import AsyncNacosClient, Config
from nacos_client import ConfigDeleted as NacosConfigDeleted

from .errors import as_config_errors

__all__ = ("NacosConfigCenter",)

Key = tuple[str, str, str]
State = ConfigResult | ConfigDeleted


class NacosConfigCenter:
    """The port `ConfigCenter` on a nacos-client; also a `ConfigPublisher`.

    Args:
        client: stays open when this is closed.
    """

    def __init__(self, client: AsyncNacosClient) -> None:
        self._client = client
        self._watchers: Watchers[Key, State] = Watchers()

    async def get_config(
        self, data_id: str, group_name: str = "", namespace_id: str = ""
    ) -> ConfigResult:
        """The document now.

        Raises:
            ConfigNotFoundError: there is none.
            ConfigCenterAccessDeniedError: user, password or permission.
            ConfigCenterUnavailableError: no server answered.
            InvalidValueError: Nacos allows no such name.
        """
        with as_config_errors("get_config", data_id):
            config = await self._client.config.get(
                data_id, group=group_name or None, namespace=namespace_id or None
            )
        return _result(config)

    def watch_config(
        self, data_id: str, listener: ConfigListener, group_name: str = "", namespace_id: str = ""
    ) -> Unsubscribe:
        """Call the listener with the present state, then on each change.

        Raises:
            InvalidValueError: Nacos allows no such name.
        """
        delivery, forget = self._watchers.add((namespace_id, group_name, data_id), listener)
        try:
            with as_config_errors("watch_config", data_id):
                stop = self._client.config.watch(
                    data_id,
                    lambda config: delivery.notify(_result(config)),
                    on_deleted=lambda gone: delivery.notify(_deleted(gone)),
                    group=group_name or None,
                    namespace=namespace_id or None,
                )
        except BaseException:
            forget()
            raise

        def unsubscribe() -> None:
            stop()
            forget()

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
            ConfigConflictError: another version than `expected_md5` is there.
        """
        with as_config_errors("publish_config", data_id):
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
        """Remove the document; one that is not there is no error."""
        with as_config_errors("delete_config", data_id):
            await self._client.admin.delete(
                data_id, group=group_name or None, namespace=namespace_id or None
            )

    async def close(self) -> None:
        """End every watch; the client stays open."""
        await self._watchers.aclose()


def _result(config: Config) -> ConfigResult:
    return ConfigResult(
        content=config.content,
        md5=config.md5,
        last_modified=config.last_modified,
        content_type=config.content_type,
        data_id=config.data_id,
        group_name=config.group,
        namespace_id=config.namespace,
    )


def _deleted(gone: NacosConfigDeleted) -> ConfigDeleted:
    return ConfigDeleted(gone.data_id, gone.group, gone.namespace)
