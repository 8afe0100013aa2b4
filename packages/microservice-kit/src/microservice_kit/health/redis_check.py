"""A health check of the Redis that a service needs; the one module that imports redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from microservice_core import InvalidValueError, MissingDependencyError

from .checks import HealthCheck

__all__ = ("redis_check",)

_TIMEOUT_SECONDS = 2.0


@asynccontextmanager
async def redis_check(url: str) -> AsyncIterator[HealthCheck]:
    """Open a check that pings the server over its own connection, closed at the end.

    Args:
        url: `redis://`, `rediss://` or `unix://`; it may contain a password and is never shown.

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
            max_connections=1,
        )
    except ValueError:
        raise InvalidValueError(
            "redis_url", "***", "a redis://, rediss:// or unix:// URL"
        ) from None

    async def ping() -> str:
        await client.ping()
        return "responds"

    try:
        yield ping
    finally:
        await client.aclose()
