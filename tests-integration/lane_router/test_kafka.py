"""aiokafka on a real broker: a group per lane, and a base that skips lanes that live."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer

from lane_router import LaneRouter, current_lane, lane_scope
from lane_router.messages import ConsumerLane
from lane_router.messages.kafka import LaneKafkaProducer, consume

LANES = ["dev", None, "test", "prod", "other"]


async def test_each_record_is_handled_once_by_base_or_by_its_lane(kafka_address: str) -> None:
    document = {"services": {"billing": {"lanes": ["dev", "test"], "port": 80}}}
    router = LaneRouter.from_document(document)
    producer = LaneKafkaProducer(bootstrap_servers=kafka_address)
    await producer.start()
    for number in range(200):
        with lane_scope(LANES[number % len(LANES)]):
            await producer.send_and_wait(
                "orders", str(number).encode(), headers=[("user", b"7"), ("user", b"8")]
            )
    await producer.stop()
    seen: list[tuple[int, str | None, str | None]] = []
    everything = asyncio.Event()

    async def run(by: str | None) -> None:
        lane = ConsumerLane("billing", service="billing", router=router, lane=by)
        consumer = AIOKafkaConsumer(
            "orders",
            bootstrap_servers=kafka_address,
            group_id=lane.group,
            auto_offset_reset="earliest",
        )

        async def handle(record: Any) -> None:
            assert [value for name, value in record.headers if name == "user"] == [b"7", b"8"]
            seen.append((int(record.value), by, current_lane()))
            if len(seen) >= 200:
                everything.set()

        await consumer.start()
        try:
            await consume(consumer, lane, handle)
        finally:
            await consumer.stop()

    tasks = [asyncio.create_task(run(by)) for by in (None, "dev", "test")]
    try:
        async with asyncio.timeout(120):
            await everything.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(number for number, _, _ in seen) == list(range(200))
    for number, by, lane in seen:
        asked = LANES[number % len(LANES)]
        assert lane == (None if asked == "prod" else asked)
        assert by == (asked if asked in {"dev", "test"} else None)
