"""Which server to use: one at a time, while those that failed rest."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from ._steps import Clock
from .errors import InvalidArgumentError

__all__ = ("Servers", "to_base_url")

logger = logging.getLogger(__name__)

_DEFAULT_PORT = 8848
_LOG_INTERVAL_SECONDS = 10.0


def to_base_url(
    address: str, *, context_path: str, tls: bool, default_port: int = _DEFAULT_PORT
) -> str:
    """`http://host:port/context` for an address as users write it.

    `host`, `host:port`, `[::1]:port` and whole URLs are understood; a URL's own scheme and path
    take precedence over `tls` and `context_path`.

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
    the one that has rested longest is used: a request is never refused without an attempt.
    """

    def __init__(
        self, addresses: Iterable[str], *, clock: Clock, rng: random.Random, rest_seconds: float
    ) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self._clock = clock
        self._rest_seconds = rest_seconds
        self._rng = rng
        self._resting_until: dict[str, float] = {}
        self._failing: set[str] = set()
        self._logged: set[str] = set()  # those of the failing ones that were worth a log line
        self._logged_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._current = rng.choice(self._addresses) if self._addresses else ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The base URLs of all present servers, in the given order."""
        return self._addresses

    @property
    def current_address(self) -> str:
        """`host:port` of the server for the next attempt; empty when there is none."""
        return urlsplit(self.pick()).netloc if self._addresses else ""

    def replace(self, addresses: Iterable[str]) -> None:
        """Use another list of servers from now on; an empty list is ignored."""
        servers = tuple(dict.fromkeys(addresses))
        if not servers or servers == self._addresses:
            return
        with self._lock:
            logger.info("the Nacos servers are now %s", ", ".join(servers))
            self._addresses = servers
            self._resting_until = {k: v for k, v in self._resting_until.items() if k in servers}
            self._failing &= set(servers)
            self._logged &= set(servers)
            self._logged_at = {k: v for k, v in self._logged_at.items() if k in servers}
            if self._current not in servers:
                self._current = self._rng.choice(servers)

    def after_fork(self) -> None:
        """Make the lock usable in a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def pick(self, tried: Collection[str] = ()) -> str:
        """The base URL of the server for the next attempt, if possible none of the tried ones."""
        with self._lock:
            now = self._clock()
            start = self._addresses.index(self._current)
            order = self._addresses[start:] + self._addresses[:start]
            candidates = [server for server in order if server not in tried] or list(order)
            for server in candidates:
                if self._resting_until.get(server, now) <= now:
                    return server
            return min(candidates, key=self._resting_until.__getitem__)

    def record_failure(self, server: str, reason: str) -> None:
        """Let the server rest, and go on to the next one."""
        with self._lock:
            if server not in self._addresses:
                return
            self._resting_until[server] = self._clock() + self._rest_seconds
            is_logged = server not in self._failing and self._claim_log_line(server)
            self._failing.add(server)
            if self._current == server:
                index = self._addresses.index(server)
                self._current = self._addresses[(index + 1) % len(self._addresses)]
        if is_logged:
            logger.warning("lost Nacos server %s: %s", server, reason)

    def record_success(self, server: str) -> None:
        """End the server's rest: it responds."""
        if not self._failing:  # read without the lock: this runs after each request
            return
        with self._lock:
            self._resting_until.pop(server, None)
            is_logged = server in self._logged
            self._failing.discard(server)
            self._logged.discard(server)
        if is_logged:
            logger.info("Nacos server %s is back", server)

    def _claim_log_line(self, server: str) -> bool:
        """Whether to log this loss; a server that comes and goes gets one line in ten seconds."""
        now = self._clock()
        if now - self._logged_at.get(server, float("-inf")) < _LOG_INTERVAL_SECONDS:
            return False
        self._logged_at[server] = now
        self._logged.add(server)
        return True
