"""aio-pika on a real RabbitMQ: lane queues, dead-lettering to the base, and the header's authority."""

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from lane_router import LaneError, current_lane, lane_scope
from lane_router.messages.rabbitmq import LaneQueue, in_message_lane

Seen = tuple[str, str, str | None]


@pytest.fixture
async def channel(rabbitmq_address: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(rabbitmq_address)
    async with connection:
        yield await connection.channel()


async def consume(
    channel: AbstractChannel, queue: LaneQueue, lane: str | None, seen: asyncio.Queue[Seen]
) -> None:
    @in_message_lane
    async def handler(message: AbstractIncomingMessage) -> None:
        async with message.process():
            await seen.put((message.body.decode(), queue.name_of(lane), current_lane()))

    declared = await queue.declare(channel, lane)
    await declared.consume(handler)


async def take(seen: asyncio.Queue[Seen], count: int) -> set[Seen]:
    async with asyncio.timeout(30):
        return {await seen.get() for _ in range(count)}


async def test_each_message_is_taken_by_its_lane_or_by_the_base(channel: AbstractChannel) -> None:
    queue, seen = LaneQueue("orders", durable=False), asyncio.Queue[Seen]()
    await consume(channel, queue, None, seen)
    await consume(channel, queue, "dev", seen)
    for lane in ("dev", "other", None, "prod"):
        with lane_scope(lane):
            taken_by = await queue.publish(channel, aio_pika.Message(str(lane).encode()))
            assert taken_by == ("orders.dev" if lane == "dev" else "orders")
    assert await take(seen, 4) == {
        ("dev", "orders.dev", "dev"),
        ("other", "orders", "other"),
        ("None", "orders", None),
        ("prod", "orders", None),
    }


async def test_lesson_c_what_a_lane_leaves_comes_to_the_base_with_its_header(
    channel: AbstractChannel,
) -> None:
    queue, seen = LaneQueue("bills", durable=False, patience_seconds=0.2), asyncio.Queue[Seen]()
    await queue.declare(channel, "dev")  # nobody consumes there
    await consume(channel, queue, None, seen)
    with lane_scope("dev"):
        assert await queue.publish(channel, aio_pika.Message(b"left")) == "bills.dev"
    assert await take(seen, 1) == {("left", "bills", "dev")}


async def test_lesson_d_a_queue_that_delays_keeps_its_messages(channel: AbstractChannel) -> None:
    queue = LaneQueue("later", durable=False, patience_seconds=None)
    await queue.declare(channel)
    declared = await queue.declare(channel, "dev")
    with lane_scope("dev"):
        await queue.publish(channel, aio_pika.Message(b"kept"))
    message = await declared.get(timeout=10)
    assert message is not None
    assert message.headers["x-lane"] == "dev"
    await message.ack()


async def test_a_lane_queue_nobody_uses_is_deleted_by_the_broker(channel: AbstractChannel) -> None:
    queue = LaneQueue("brief", durable=False, expires_seconds=0.2)
    await queue.declare(channel)
    await queue.declare(channel, "dev")
    async with asyncio.timeout(30):
        with lane_scope("dev"):
            while await queue.publish(channel, aio_pika.Message(b"x")) != "brief":
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("raising", [True, False])
async def test_a_message_no_queue_takes_is_an_error(rabbitmq_address: str, raising: bool) -> None:
    connection = await aio_pika.connect(rabbitmq_address)
    async with connection:
        channel = await connection.channel(on_return_raises=raising)
        with lane_scope("dev"), pytest.raises(LaneError, match="no queue 'absent'"):
            await LaneQueue("absent").publish(channel, aio_pika.Message(b"x"))
