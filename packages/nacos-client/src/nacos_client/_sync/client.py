# Generated from _async by scripts/generate_sync.py: change it there.
"""The sync client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, Unpack

from nacos_client._core import Core
from nacos_client._transport import SyncRunner
from nacos_client.settings import ClientOptions, Settings

from .admin import AdminApi
from .config import ConfigApi
from .naming import NamingApi

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ("NacosClient",)


class NacosClient:
    """A client of one Nacos, standalone or cluster.

    Nothing is sent before the first call. Options that are not given are read from `NACOS_*`
    environment variables; see `Settings` for all of them. May be used from several threads;
    a forked child needs a client of its own for watches and registrations.

    Raises:
        InvalidArgumentError: an option is illegal; the error names it.
    """

    def __init__(
        self,
        server_addr: str | Sequence[str] | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._core: Core = Core(Settings.load(server_addr, options), sync=True)
        self._runner: SyncRunner = SyncRunner(self._core.options)
        self.config: ConfigApi = ConfigApi(self._core, self._runner)
        self.naming: NamingApi = NamingApi(self._core, self._runner)
        self.admin: AdminApi = AdminApi(self._core, self._runner)

    def __repr__(self) -> str:
        return f"NacosClient({', '.join(self._core.session.servers.addresses)!r})"

    @property
    def server_in_use(self) -> str:
        """The `host:port` of the server that gets the next request."""
        return self._core.session.servers.current_address

    def login(self, username: str, password: str) -> None:
        """Log in as this user from now on, for example after a change of the password.

        Calls, watches and heartbeats under way go on; where the server refuses the credentials, the
        former ones stay in use.

        Raises:
            AuthenticationError: they are refused.
            ServerUnavailableError: no server responded.
        """
        self._runner.run(self._core.login(username, password))

    def close_connections(self) -> None:
        """Close the pooled connections; the client stays usable and opens new ones.

        A client that outlives an event loop needs this before that loop ends.
        """
        self._runner.close()

    def close(self) -> None:
        """Deregister, end every watch, close every connection; within two seconds.

        Closing twice is fine.
        """
        self._runner.run(self._core.close())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
