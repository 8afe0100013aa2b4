"""Learn the servers from an address server: a text file over HTTP, one `host:port` per line."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ._servers import Servers, base_url
from ._steps import Clock, NoAnswer, Operation, Request, Send
from .errors import InvalidArgumentError, ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("AddressServer",)

REFRESH_SECONDS = 30.0
ATTEMPT_SECONDS = 3.0
DEFAULT_PORT = 8080
DEFAULT_PATH = "/nacos/serverlist"


class AddressServer:
    """Keeps the list of servers fresh as calls are made; the last good list outlives an outage.

    Args:
        endpoint: `host`, `host:port` or a URL; the path is `/nacos/serverlist` unless given.
        to_url: the base URL of a line.
    """

    def __init__(
        self, endpoint: str, servers: Servers, *, clock: Clock, to_url: Callable[[str], str]
    ) -> None:
        base = base_url(endpoint, context_path="", tls=False, default_port=DEFAULT_PORT)
        root, slash, path = base.removesuffix("/").partition("://")[2].partition("/")
        self._base = f"{base.partition('://')[0]}://{root}"
        self._path = slash + path if path else DEFAULT_PATH
        self._servers = servers
        self._clock = clock
        self._to_url = to_url
        self._lock = threading.Lock()
        self._asked_at = float("-inf")

    def refresh(self) -> Operation[None]:
        """Ask again when the list is old; an address server that fails is asked again later.

        Raises:
            ServerUnavailableError: there is no list yet, and the address server gives none.
        """
        if not self._due():
            return
        request = Request("GET", self._path, anonymous=True)
        failure = ""
        try:
            answer = yield Send(self._base, request, {}, ATTEMPT_SECONDS, ATTEMPT_SECONDS)
        except NoAnswer as silence:
            failure = silence.reason
        else:
            failure = self._take(answer.status, answer.body)
        if failure and not self._servers.addresses:
            raise ServerUnavailableError(
                request.operation, (f"{self._base}: {failure}",), "the address server gave no list"
            )

    def _due(self) -> bool:
        with self._lock:
            now = self._clock()
            if self._servers.addresses and now - self._asked_at < REFRESH_SECONDS:
                return False
            self._asked_at = now
            return True

    def _take(self, status: int, body: bytes) -> str:
        """Take over the list; what is wrong with it, or empty."""
        if status != 200:
            return f"HTTP {status}"
        lines = [line.strip() for line in body.decode("utf-8", "replace").splitlines()]
        try:
            found = [self._to_url(line) for line in lines if line and not line.startswith("#")]
        except InvalidArgumentError as error:
            return str(error)
        if not found:
            return "an empty list"
        self._servers.replace(found)
        return ""
