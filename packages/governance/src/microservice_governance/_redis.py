"""The door to redis-py: the only module that imports it."""

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
        "what is shared through Redis", "microservice-governance[redis]"
    ) from None

__all__ = (
    "FAILURES",
    "AsyncClient",
    "AsyncRedis",
    "AsyncRedisCluster",
    "Client",
    "NoScriptError",
    "Redis",
)

Client: TypeAlias = Redis | RedisCluster
AsyncClient: TypeAlias = AsyncRedis | AsyncRedisCluster

FAILURES = Exception
"""What a client raises when it cannot do what it was asked. More than `RedisError` and `OSError`: a
garbled answer is a `ValueError`, a connection lost while it was being set up an `AttributeError`."""
