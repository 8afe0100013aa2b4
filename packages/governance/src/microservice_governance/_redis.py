"""The only module that imports redis-py."""

from __future__ import annotations

from typing import TypeAlias

from microservice_core import MissingDependencyError

try:
    from redis import Redis, RedisCluster
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio import RedisCluster as AsyncRedisCluster
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        ClusterError,
        InvalidResponse,
        NoScriptError,
        RedisClusterException,
        ResponseError,
    )
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError
    from redis.retry import Retry
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
    "CountedFailureError",
    "NoScriptError",
    "Redis",
    "ResponseError",
    "describe_failure",
    "is_encodable",
    "make_async_client",
    "make_client",
    "own_retries",
)

Client: TypeAlias = Redis | RedisCluster
AsyncClient: TypeAlias = AsyncRedis | AsyncRedisCluster


class CountedFailureError(ConnectionError):
    """Redis cannot be asked now; why was reported elsewhere, so this says nothing new of it."""


REDIS_FAILURES: tuple[type[Exception], ...] = (
    RedisConnectionError,
    RedisTimeoutError,
    ResponseError,
    InvalidResponse,
    ClusterError,
    RedisClusterException,
    OSError,
    EOFError,
    ValueError,
    AttributeError,
)
"""What a client raises when a command fails: the connection, the time, the server. redis-py raises
`ValueError` for a garbled response, and `AttributeError` for a connection lost during its set-up.
All other errors are mistakes in the program and come out."""

_MAX_TEXT_LENGTH = 160


def describe_failure(error: BaseException) -> str:
    """Why a command failed, as a short text for a log line: printable, in one line."""
    text = "".join(filter(str.isprintable, " ".join(str(error).split())))
    if not text and isinstance(error, (TimeoutError, RedisTimeoutError)):
        text = "no response in time"
    return f"{type(error).__name__}: {text[:_MAX_TEXT_LENGTH]}".rstrip(": ")


def own_retries(client: object) -> int:
    """How many times the client repeats a command that failed by itself."""
    retry = getattr(client, "retry", None)  # of a cluster client
    get_retry = getattr(client, "get_retry", None)
    if get_retry is not None:
        retry = get_retry()
    return retry.get_retries() if isinstance(retry, (Retry, AsyncRetry)) else 0


def make_client(url: str, *, timeout_seconds: float, connect_timeout_seconds: float) -> Redis:
    """A client that gives up in time and does not repeat a command by itself."""
    return Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=connect_timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )


def make_async_client(url: str) -> AsyncRedis:
    """A client that does not repeat a command by itself; its limiter limits the time."""
    return AsyncRedis.from_url(
        url, socket_timeout=None, socket_connect_timeout=None, retry=AsyncRetry(NoBackoff(), 0)
    )


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can encode `text`, as redis-py would have to."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
