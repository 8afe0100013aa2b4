# Generated from _async by scripts/generate_sync.py: change it there.
"""Read and watch configuration documents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nacos_client._changes import Changes
from nacos_client._core import Core
from nacos_client._delivery import Listener
from nacos_client._transport import SyncRunner
from nacos_client.models import Config, ConfigDeleted, WatchStatus

__all__ = ("ConfigApi",)


class ConfigApi:
    """`nacos.config`: reads and watches documents.

    `group` and `namespace` default to the client's.
    """

    def __init__(self, core: Core, runner: SyncRunner) -> None:
        self._core = core
        self._runner = runner

    def get(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> Config:
        """The document now.

        Raises:
            ConfigNotFound: it does not exist; confirmed by a second read, since the server gives
                the same response while a document is published.
            ServerUnavailableError: no server responded.
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

        While the document does not exist, at the beginning or after a deletion, `on_deleted` is
        called instead, once, with a `ConfigDeleted`; without `on_deleted` nothing is called until
        the document appears. Both may be plain or async, get the newest state only, and never run
        at the same time; an exception of theirs is logged, and they are called again with the next
        change. In an outage of the server neither is called, and the watch continues.

        Returns:
            a callable that ends the watch; it may be called twice.
        """
        key = self._core.config_key(data_id, group, namespace)
        return self._core.watch_config(key, listener, on_deleted)

    def changes(
        self, data_id: str, *, group: str | None = None, namespace: str | None = None
    ) -> Changes:
        """The present state of a document, then each newer one, as an iterator.

        `with nacos.config.changes("app.yaml") as changes: for state in changes: …`;
        each state is a `Config` or a `ConfigDeleted`.
        """
        key = self._core.config_key(data_id, group, namespace)
        return Changes(partial(self._core.watch_config_states, key))

    def wait_for_change(
        self,
        data_id: str,
        *,
        md5: str | None = None,
        timeout_seconds: float | None = None,
        group: str | None = None,
        namespace: str | None = None,
    ) -> Config | ConfigDeleted:
        """Wait until the md5 of the document is another one; by default, than now.

        Raises:
            TimeoutError: it did not change in time.
        """
        with self.changes(data_id, group=group, namespace=namespace) as changes:
            state = changes.next(timeout_seconds)
            while isinstance(state, Config) and state.md5 == md5:
                state = changes.next(timeout_seconds)
            return changes.next(timeout_seconds) if md5 is None else state

    @property
    def watch_status(self) -> WatchStatus:
        """How many documents this client watches, and how many of those polls fail."""
        return self._core.config_watches.status
