"""Kafka with aiokafka: the lane in record headers, a consumer group per lane."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.structs import RecordMetadata

from lane_router.context.lane_context import LaneScope

from .consumer_lane import ConsumerLane
from .headers import lane_of, message_scope, with_lane

__all__ = ("LaneKafkaProducer", "consume", "record_headers", "record_scope")

# aiokafka's own form: a key may be there several times.
Headers = list[tuple[str, bytes]]
Handler = Callable[["ConsumerRecord[Any, Any]"], Awaitable[None]]


def record_headers(headers: Iterable[tuple[str, bytes]] | None = None) -> Headers:
    """The headers and the present lane; what the user put there stays as it is."""
    given = list(headers or ())
    names = {name for name, _ in given}
    added = with_lane(dict(given)).items()
    return given + [(name, str(value).encode()) for name, value in added if name not in names]


def record_scope(record: ConsumerRecord[Any, Any]) -> LaneScope:
    """Run the block in the record's lane."""
    return message_scope(dict(record.headers))


class LaneKafkaProducer(AIOKafkaProducer):  # type: ignore[misc]
    """An `AIOKafkaProducer` whose records carry the lane they were sent in."""

    async def send(  # noqa: PLR0917 - the signature is its parent's
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Iterable[tuple[str, bytes]] | None = None,
    ) -> asyncio.Future[RecordMetadata]:
        """Send with the present lane; as its parent's, `send_and_wait` goes through here too."""
        sent: asyncio.Future[RecordMetadata] = await super().send(
            topic, value, key, partition, timestamp_ms, record_headers(headers)
        )
        return sent


async def consume(consumer: AIOKafkaConsumer, lane: ConsumerLane, handler: Handler) -> None:
    """Handle the records that are this consumer's, each in its own lane, until cancelled.

    The others are passed over: their own group has them. Offsets are committed as the consumer is
    set up to; start it with `group_id=lane.group`, and a lane with `auto_offset_reset="latest"`.
    """
    async for record in consumer:
        if lane.handles(lane_of(dict(record.headers))):
            with record_scope(record):
                await handler(record)
