import fakeredis
import pytest

from lane_router import LaneRouter, current_lane, lane_scope
from lane_router.messages import ConsumerLane
from lane_router.messages.redis_streams import LaneStream
from microservice_core import InvalidValueError

DOCUMENT = {"services": {"billing": {"lanes": ["dev"], "port": 80}}}


class Seen:
    def __init__(self) -> None:
        self.entries: list[tuple[str, str | None]] = []

    async def __call__(self, identity: str, fields: dict[str, str]) -> None:
        self.entries.append((fields["id"], current_lane()))


@pytest.mark.parametrize("protocol", [2, 3])
async def test_base_and_lane_share_a_stream_and_each_entry_is_handled_once(protocol: int) -> None:
    redis = fakeredis.FakeAsyncRedis(protocol=protocol)
    router = LaneRouter.from_document(DOCUMENT)
    base = ConsumerLane("billing", service="billing", router=router)
    dev = ConsumerLane("billing", service="billing", router=router, lane="dev")
    stream = LaneStream(redis, "orders")
    for consumer in (base, dev, dev):
        await stream.join(consumer)
    for number, lane in enumerate((None, "dev", "other")):
        with lane_scope(lane):
            await stream.add({"id": str(number)})
    by_base, by_dev = Seen(), Seen()
    assert await stream.read(base, "b1", by_base, block_seconds=0.01) == 2
    assert await stream.read(dev, "d1", by_dev, block_seconds=0.01) == 1
    assert await stream.read(dev, "d1", by_dev, block_seconds=0.01) == 0
    assert by_base.entries == [("0", None), ("2", "other")]
    assert by_dev.entries == [("1", "dev")]
    for consumer in (base, dev):
        pending = await redis.xpending("orders", consumer.group)
        assert pending["pending"] == 0
    await redis.aclose()


async def test_an_entry_whose_handler_fails_stays_pending() -> None:
    redis = fakeredis.FakeAsyncRedis()
    stream, base = LaneStream(redis, "orders"), ConsumerLane("billing", service="billing")
    await stream.join(base)
    await stream.add({"id": "1"})

    async def fail(identity: str, fields: dict[str, str]) -> None:
        raise RuntimeError(identity)

    with pytest.raises(RuntimeError):
        await stream.read(base, "b1", fail, block_seconds=0.01)
    assert (await redis.xpending("orders", "billing"))["pending"] == 1
    await redis.aclose()


async def test_a_stream_needs_a_name_and_a_group_a_stream() -> None:
    redis = fakeredis.FakeAsyncRedis()
    with pytest.raises(InvalidValueError, match="name must be the name of a stream"):
        LaneStream(redis, "")
    await redis.set("text", "x")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await LaneStream(redis, "text").join(ConsumerLane("g", service="s"))
    await redis.aclose()
