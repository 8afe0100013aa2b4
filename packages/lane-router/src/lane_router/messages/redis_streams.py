"""Redis streams: the lane in a field of each entry, a consumer group per lane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from lane_router.context.lane_name import HEADER
from lane_router.propagation.carriers import BAGGAGE
from microservice_core import InvalidValueError

from .headers import lane_of, message_scope, with_lane

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from .consumer_lane import ConsumerLane

__all__ = ("LaneStream",)

Fields = dict[str, str]
Handler = Callable[[str, Fields], Awaitable[None]]


class LaneStream:
    """A stream that base and lanes read side by side.

        stream = LaneStream(redis, "orders")
        await stream.add({"id": "7"})
        await stream.read(ConsumerLane("billing", service="billing", router=router), "c1", handle)

    Args:
        redis: a client of redis-py, for asyncio.
        most: entries to keep, about; None = all.

    Raises:
        InvalidValueError: an empty name.
    """

    def __init__(self, redis: Redis, name: str, *, most: int | None = 100_000) -> None:
        if not name:
            raise InvalidValueError("name", name, "the name of a stream")
        self._redis = redis
        self._name = name
        self._most = most

    async def add(self, fields: Mapping[str, str]) -> str:
        """Append an entry with the present lane; its id."""
        entry: Any = with_lane(fields)
        identity = await self._redis.xadd(self._name, entry, maxlen=self._most, approximate=True)
        return _text(identity)

    async def join(self, lane: ConsumerLane) -> None:
        """Make sure that the group is there; a new one of a lane begins with what comes now."""
        from redis.exceptions import ResponseError

        start = "0" if lane.lane is None else "$"
        try:
            await self._redis.xgroup_create(self._name, lane.group, id=start, mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def read(
        self,
        lane: ConsumerLane,
        consumer: str,
        handler: Handler,
        *,
        count: int = 100,
        block_seconds: float = 5.0,
    ) -> int:
        """Wait for entries once and handle those that are this consumer's, each in its own lane.

        An entry is acknowledged when it was handled, or is somebody else's. One whose handler
        raises is not, and the error comes out.

        Returns:
            how many were handled.
        """
        found: Any = await self._redis.xreadgroup(
            lane.group,
            consumer,
            {self._name: ">"},
            count=count,
            block=max(1, round(block_seconds * 1000)),
        )
        handled = 0
        for identity, entry in _entries(found):
            if lane.handles(lane_of(_carried(entry))):
                with message_scope(_carried(entry)):
                    await handler(identity, entry)
                handled += 1
            await self._redis.xack(self._name, lane.group, identity)
        return handled


def _entries(found: Any) -> list[tuple[str, Fields]]:
    """Of the one stream asked for; RESP2 answers a list, RESP3 a mapping with nested lists."""
    if not found:
        return []
    listed = next(iter(found.values())) if isinstance(found, dict) else found[0][1]
    if isinstance(found, dict):
        listed = listed[0] if listed and isinstance(listed[0], list) else listed
    return [
        (_text(identity), {_text(key): _text(value) for key, value in fields.items()})
        for identity, fields in listed
        if fields
    ]


def _carried(entry: Fields) -> Fields:
    return {name: entry[name] for name in (HEADER, BAGGAGE) if name in entry}


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
