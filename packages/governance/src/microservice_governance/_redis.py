"""The only module that imports redis-py."""

from __future__ import annotations

from typing import TypeAlias

from microservice_core import MissingDependencyError

try:
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster
    from redis.exceptions import NoScriptError
except ImportError:
    raise MissingDependencyError(
        "sharing state through Redis", "microservice-governance[redis]"
    ) from None

__all__ = (
    "REDIS_FAILURES",
    "AsyncClient",
    "AsyncRedis",
    "AsyncRedisCluster",
    "Client",
    "NoScriptError",
    "Redis",
)

Client: TypeAlias = Redis | RedisCluster
AsyncClient: TypeAlias = AsyncRedis | AsyncRedisCluster

REDIS_FAILURES = Exception
"""What a client raises when a command fails. Wider than `RedisError` and `OSError` on purpose: a
garbled response is a `ValueError`, a connection lost during its set-up an `AttributeError`."""
