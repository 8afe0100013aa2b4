"""The Redis that a service needs, and a health check of it; the one module that imports redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from microservice_core import InvalidValueError, MissingDependencyError

from .checks import HealthCheck

__all__ = ("open_redis", "redis_check")

if TYPE_CHECKING:
    from redis.asyncio import Redis

_TIMEOUT_SECONDS = 2.0


@asynccontextmanager
async def open_redis(url: str, *, max_connections: int | None = None) -> AsyncIterator[Redis]:
    """Open a client, closed at the end; it connects when it is first used.

    Args:
        url: `redis://`, `rediss://` or `unix://`; it may contain a password and is never shown.
        max_connections: None = as many as are needed at the same time.

    Raises:
        InvalidValueError: it is no address of a Redis.
        MissingDependencyError: the extra `redis` is not installed.
    """
    try:
        from redis.asyncio import Redis
    except ImportError as error:
        raise MissingDependencyError("redis_url", "microservice-kit[redis]") from error
    try:
        client = Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            max_connections=max_connections,
        )
    except ValueError:
        raise InvalidValueError(
            "redis_url", "***", "a redis://, rediss:// or unix:// URL"
        ) from None
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def redis_check(url: str) -> AsyncIterator[HealthCheck]:
    """Open a check that pings the server over its own connection, closed at the end.

    Args:
        url: see `open_redis`.

    Raises:
        InvalidValueError: it is no address of a Redis.
        MissingDependencyError: the extra `redis` is not installed.
    """
    async with open_redis(url, max_connections=1) as client:

        async def ping() -> str:
            await client.ping()
            return "responds"

        yield ping
