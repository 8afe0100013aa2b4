"""The door to redis-py: the only module that imports it."""

from __future__ import annotations

from typing import TypeAlias

from microservice_core import MissingDependencyError

try:
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster
    from redis.exceptions import NoScriptError, RedisError
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
    "RedisError",
)

Client: TypeAlias = Redis | RedisCluster
AsyncClient: TypeAlias = AsyncRedis | AsyncRedisCluster

FAILURES = (RedisError, OSError, TimeoutError, ValueError)
"""What a client raises when its server does not do what it was asked, or answers with garbage."""
