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

# aiokafka's own form, in which a key may be repeated.
Headers = list[tuple[str, bytes]]
Handler = Callable[["ConsumerRecord[Any, Any]"], Awaitable[None]]


def record_headers(headers: Iterable[tuple[str, bytes]] | None = None) -> Headers:
    """The headers with the current lane added; headers that are set stay as they are."""
    fields = list(headers or ())
    names = {name for name, _ in fields}
    extended = with_lane(dict(fields)).items()
    return fields + [(name, str(value).encode()) for name, value in extended if name not in names]


def record_scope(record: ConsumerRecord[Any, Any]) -> LaneScope:
    """Run a block in the record's lane."""
    return message_scope(dict(record.headers))


class LaneKafkaProducer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
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
        """Send with the current lane; `send_and_wait` uses this method as well."""
        future: asyncio.Future[RecordMetadata] = await super().send(
            topic, value, key, partition, timestamp_ms, record_headers(headers)
        )
        return future


async def consume(consumer: AIOKafkaConsumer, lane: ConsumerLane, handler: Handler) -> None:
    """Handle the records that belong to this consumer, each in its own lane, until cancelled.

    Other records are skipped: another consumer group reads them as well. Offsets are committed as
    the consumer is configured to; create it with `group_id=lane.group`, and that of a lane with
    `auto_offset_reset="latest"`.
    """
    async for record in consumer:
        if lane.handles(lane_of(dict(record.headers))):
            with record_scope(record):
                await handler(record)
