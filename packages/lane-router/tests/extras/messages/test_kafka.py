"""Kafka records; the real broker is in the integration tests."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from lane_router import LaneRouter, current_lane, lane_scope
from lane_router.messages import ConsumerLane
from lane_router.messages.kafka import consume, record_headers, record_scope


@dataclass
class Records:
    """A consumer that has these records and then ends."""

    records: Sequence[Any] = field(default_factory=list)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for record in self.records:
            yield record


def record(value: str, lane: str | None) -> Any:
    headers = [("x-lane", lane.encode())] if lane else []
    return ConsumerRecord("t", 0, 0, 0, 0, None, value, None, 0, 0, tuple(headers))


def test_headers_of_the_user_are_never_clobbered() -> None:
    with lane_scope("dev"):
        assert record_headers() == [("x-lane", b"dev"), ("baggage", b"lane=dev")]
        twice = [("a", b"1"), ("a", b"2"), ("x-lane", b"mine")]
        assert record_headers(twice) == twice
    assert record_headers() == []


def test_a_record_runs_in_its_lane() -> None:
    with record_scope(record("1", "dev")):
        assert current_lane() == "dev"


async def test_base_and_lane_each_handle_what_is_theirs() -> None:
    router = LaneRouter.from_document({"services": {"billing": {"lanes": ["dev"], "port": 80}}})
    records = Records([record("1", None), record("2", "dev"), record("3", "other")])
    for lane, expected in ((None, [("1", None), ("3", "other")]), ("dev", [("2", "dev")])):
        handled: list[tuple[str, str | None]] = []

        async def handle(item: Any, handled: list[tuple[str, str | None]] = handled) -> None:
            handled.append((item.value, current_lane()))

        consumer = ConsumerLane("billing", service="billing", router=router, lane=lane)
        await consume(cast(AIOKafkaConsumer, records), consumer, handle)
        assert handled == expected
