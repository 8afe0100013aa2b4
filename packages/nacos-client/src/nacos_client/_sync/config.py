# Generated from _async by scripts/generate_sync.py: change it there.
"""Read and watch configuration documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nacos_client._core import Core
    from nacos_client._delivery import Listener
    from nacos_client._transport import SyncRunner
    from nacos_client.models import Config, ConfigDeleted

__all__ = ("ConfigApi",)


class ConfigApi:
    """`nacos.config`. `group` and `namespace` default to the client's."""

    def __init__(self, core: Core, runner: SyncRunner) -> None:
        self._core = core
        self._runner = runner

    def get(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> Config:
        """The document now.

        Raises:
            ConfigNotFound: there is none; believed after a second read, since the server gives
                the same answer while someone publishes.
            ServerUnavailableError: no server answered.
        """
        key = self._core.config_key(data_id, group, namespace)
        return self._runner.run(self._core.get_config(key))

    def watch(
        self,
        data_id: str,
        listener: Listener[Config],
        *,
        group: str | None = None,
        namespace: str | None = None,
        on_deleted: Listener[ConfigDeleted] | None = None,
    ) -> Callable[[], None]:
        """Call the listener once with the present state, then on each change.

        While there is no document, at the beginning or after a deletion, `on_deleted` is called
        instead, once, with a `ConfigDeleted`; without `on_deleted` nothing is called until a
        document appears. Both may be plain or async, see the newest state only, and never run at
        the same time; one that raises is logged and hears the next change. A server that does
        not answer calls neither: the watch goes on.

        Returns:
            a callable that ends the watch; it may be called twice.
        """
        key = self._core.config_key(data_id, group, namespace)
        return self._core.watch_config(key, listener, on_deleted)
