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
# Called with the id and the fields of an entry.
Handler = Callable[[str, Fields], Awaitable[None]]


class LaneStream:
    """A stream that base and lanes read side by side.

        stream = LaneStream(redis, "orders")
        await stream.add({"id": "7"})
        await stream.read(ConsumerLane("billing", service="billing", router=router), "c1", handle)

    Args:
        redis: a client of redis-py, for asyncio.
        most: the approximate number of entries to keep; None = all.

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
        """Append an entry with the current lane; returns its id."""
        entry: Any = with_lane(fields)
        entry_id = await self._redis.xadd(self._name, entry, maxlen=self._most, approximate=True)
        return _decode(entry_id)

    async def join(self, lane: ConsumerLane) -> None:
        """Create the consumer group if it does not exist; that of a lane starts at new entries."""
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
        """Wait for entries once, and handle those of this consumer, each in its own lane.

        An entry is acknowledged when it was handled, or belongs to another consumer. If the handler
        raises, the entry is not acknowledged and the error is raised here.

        Returns:
            how many entries were handled.
        """
        response: Any = await self._redis.xreadgroup(
            lane.group,
            consumer,
            {self._name: ">"},
            count=count,
            block=max(1, round(block_seconds * 1000)),
        )
        handled = 0
        for entry_id, entry in _parse_entries(response):
            if lane.handles(lane_of(_lane_fields(entry))):
                with message_scope(_lane_fields(entry)):
                    await handler(entry_id, entry)
                handled += 1
            await self._redis.xack(self._name, lane.group, entry_id)
        return handled


def _parse_entries(response: Any) -> list[tuple[str, Fields]]:
    """The entries of the one stream; a list in RESP2, a mapping with nested lists in RESP3."""
    if not response:
        return []
    entries = next(iter(response.values())) if isinstance(response, dict) else response[0][1]
    if isinstance(response, dict):
        entries = entries[0] if entries and isinstance(entries[0], list) else entries
    return [
        (_decode(entry_id), {_decode(key): _decode(value) for key, value in fields.items()})
        for entry_id, fields in entries
        if fields  # an entry that was deleted in the meantime has none
    ]


def _lane_fields(entry: Fields) -> Fields:
    return {name: entry[name] for name in (HEADER, BAGGAGE) if name in entry}


def _decode(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
