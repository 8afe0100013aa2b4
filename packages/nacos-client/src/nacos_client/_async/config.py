"""Read and watch configuration documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nacos_client._changes import AsyncChanges
from nacos_client.models import Config, ConfigDeleted

if TYPE_CHECKING:
    from collections.abc import Callable

    from nacos_client._core import Core
    from nacos_client._delivery import Listener
    from nacos_client._transport import AsyncRunner

__all__ = ("AsyncConfigApi",)


class AsyncConfigApi:
    """`nacos.config`. `group` and `namespace` default to the client's."""

    def __init__(self, core: Core, runner: AsyncRunner) -> None:
        self._core = core
        self._runner = runner

    async def get(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> Config:
        """The document now.

        Raises:
            ConfigNotFound: there is none; believed after a second read, since the server gives
                the same answer while someone publishes.
            ServerUnavailableError: no server answered.
        """
        key = self._core.config_key(data_id, group, namespace)
        return await self._runner.run(self._core.get_config(key))

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

    def changes(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> AsyncChanges:
        """The present state of a document, then each newer one, as an iterator.

        `async with nacos.config.changes("app.yaml") as changes: async for state in changes: …`;
        each state is a `Config` or a `ConfigDeleted`.
        """
        return AsyncChanges(self._core, self._core.config_key(data_id, group, namespace))

    async def wait_for_change(
        self,
        data_id: str,
        *,
        md5: str | None = None,
        timeout_seconds: float | None = None,
        group: str | None = None,
        namespace: str | None = None,
    ) -> Config | ConfigDeleted:
        """Wait until the document is another than the one of this md5.

        Without `md5`: than the one that is there now.

        Raises:
            TimeoutError: it did not change in time.
        """
        async with self.changes(data_id, group=group, namespace=namespace) as changes:
            state = await changes.next(timeout_seconds)
            while isinstance(state, Config) and state.md5 == md5:
                state = await changes.next(timeout_seconds)
            return await changes.next(timeout_seconds) if md5 is None else state
