"""Which server to talk to: one at a time, those that failed rest for a while."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterable

    from ._steps import Clock

__all__ = ("Servers", "base_url")

logger = logging.getLogger(__name__)

DEFAULT_PORT = 8848
QUIET_SECONDS = 10.0


def base_url(
    address: str, *, context_path: str, tls: bool, default_port: int = DEFAULT_PORT
) -> str:
    """`http://host:port/context` of an address as users write it.

    `host`, `host:port`, `[::1]:port` and whole URLs are understood; a URL's own scheme and path
    win over `tls` and `context_path`.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    rule = "host, host:port or an http(s) URL, several separated by commas"
    text = address.strip()
    scheme = "https" if tls else "http"
    try:
        parts = urlsplit(text if "://" in text else f"{scheme}://{text}")
        port = parts.port or default_port
    except ValueError:
        raise InvalidArgumentError("server_addr", address, rule) from None
    if parts.username is not None or parts.password is not None:
        raise InvalidArgumentError(
            "server_addr",
            "an address with credentials",
            "without them: use username= and password=",
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or " " in text:
        raise InvalidArgumentError("server_addr", address, rule)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/") or "/" + context_path.strip("/")
    return f"{parts.scheme}://{host}:{port}{path.rstrip('/')}"


class Servers:
    """The servers of one Nacos, used from several threads.

    One server is used until it fails; then the next, while the failed one rests. When all rest,
    the one that has rested longest is tried: a request is never refused without an attempt.
    """

    def __init__(
        self, addresses: Iterable[str], *, clock: Clock, rng: random.Random, rest_seconds: float
    ) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self._clock = clock
        self._rest_seconds = rest_seconds
        self._rng = rng
        self._resting: dict[str, float] = {}
        self._lost: set[str] = set()
        self._told: set[str] = set()
        self._told_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._current = rng.choice(self._addresses) if self._addresses else ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All servers known now, in the order given."""
        return self._addresses

    @property
    def in_use(self) -> str:
        """`host:port` of the server for the next attempt."""
        return urlsplit(self.pick()).netloc if self._addresses else ""

    def replace(self, addresses: Iterable[str]) -> None:
        """Take over a new list; an empty one is not believed."""
        found = tuple(dict.fromkeys(addresses))
        if not found or found == self._addresses:
            return
        with self._lock:
            logger.info("the Nacos servers are now %s", ", ".join(found))
            self._addresses = found
            self._resting = {k: v for k, v in self._resting.items() if k in found}
            self._lost &= set(found)
            self._told &= set(found)
            self._told_at = {k: v for k, v in self._told_at.items() if k in found}
            if self._current not in found:
                self._current = self._rng.choice(found)

    def pick(self, tried: Collection[str] = ()) -> str:
        """The server for the next attempt, if possible one that was not tried."""
        with self._lock:
            now = self._clock()
            at = self._addresses.index(self._current)
            order = self._addresses[at:] + self._addresses[:at]
            fresh = [server for server in order if server not in tried] or list(order)
            ready = [server for server in fresh if self._resting.get(server, now) <= now]
            return ready[0] if ready else min(fresh, key=self._resting.__getitem__)

    def failed(self, server: str, reason: str) -> None:
        """Let the server rest, and move on to the next."""
        with self._lock:
            if server not in self._addresses:
                return
            self._resting[server] = self._clock() + self._rest_seconds
            first = server not in self._lost and self._worth_a_line(server)
            self._lost.add(server)
            at = self._addresses.index(server)
            if self._current == server:
                self._current = self._addresses[(at + 1) % len(self._addresses)]
        if first:
            logger.warning("lost Nacos server %s: %s", server, reason)

    def _worth_a_line(self, server: str) -> bool:
        """One line per loss; a server that comes and goes gets one in ten seconds."""
        now = self._clock()
        if now - self._told_at.get(server, float("-inf")) < QUIET_SECONDS:
            return False
        self._told_at[server] = now
        self._told.add(server)
        return True

    def answered(self, server: str) -> None:
        """The server works."""
        if not self._lost:
            return
        with self._lock:
            self._resting.pop(server, None)
            back = server in self._told
            self._lost.discard(server)
            self._told.discard(server)
        if back:
            logger.info("Nacos server %s is back", server)
