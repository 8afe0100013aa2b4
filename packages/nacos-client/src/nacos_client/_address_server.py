"""Learn the servers from an address server: a text file over HTTP, one `host:port` per line."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ._servers import Servers, to_base_url
from ._steps import Clock, NoResponse, Operation, Request, Response, Send
from .errors import InvalidArgumentError, ServerUnavailableError

__all__ = ("AddressServer",)

_REFRESH_SECONDS = 30.0
_ATTEMPT_SECONDS = 3.0
_DEFAULT_PORT = 8080
_DEFAULT_PATH = "/nacos/serverlist"


class AddressServer:
    """Refreshes the list of servers as calls are made; keeps the last good list in an outage.

    Args:
        endpoint: `host`, `host:port` or a URL; its default path is `/nacos/serverlist`.
        to_url: turns a line of the list into a base URL.
    """

    def __init__(
        self, endpoint: str, servers: Servers, *, clock: Clock, to_url: Callable[[str], str]
    ) -> None:
        base = to_base_url(endpoint, context_path="", tls=False, default_port=_DEFAULT_PORT)
        scheme, _, rest = base.removesuffix("/").partition("://")
        host, slash, path = rest.partition("/")
        self._base = f"{scheme}://{host}"
        self._path = slash + path if path else _DEFAULT_PATH
        self._servers = servers
        self._clock = clock
        self._to_url = to_url
        self._lock = threading.Lock()
        self._refreshed_at = float("-inf")

    def after_fork(self) -> None:
        """Make the lock usable in a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def refresh(self) -> Operation[None]:
        """Read the list again if it is old; a failure is ignored while there is a list.

        Raises:
            ServerUnavailableError: there is no list yet, and the address server gives none.
        """
        if not self._claim_refresh():
            return
        request = Request("GET", self._path, anonymous=True)
        try:
            response = yield Send(self._base, request, {}, _ATTEMPT_SECONDS, _ATTEMPT_SECONDS)
        except NoResponse as silence:
            failure = silence.reason
        else:
            failure = self._use_list(response)
        if failure and not self._servers.addresses:
            raise ServerUnavailableError(
                request.operation, (f"{self._base}: {failure}",), "the address server gave no list"
            )

    def _claim_refresh(self) -> bool:
        """Whether the list is old; then this caller refreshes it, and no other one."""
        with self._lock:
            now = self._clock()
            if self._servers.addresses and now - self._refreshed_at < _REFRESH_SECONDS:
                return False
            self._refreshed_at = now
            return True

    def _use_list(self, response: Response) -> str:
        """Replace the servers by those of the response; returns what is wrong with it, or ""."""
        if response.status != 200:
            return f"HTTP {response.status}"
        lines = [line.strip() for line in response.body.decode("utf-8", "replace").splitlines()]
        try:
            servers = [self._to_url(line) for line in lines if line and not line.startswith("#")]
        except InvalidArgumentError as error:
            return str(error)
        if not servers:
            return "an empty list"
        self._servers.replace(servers)
        return ""
