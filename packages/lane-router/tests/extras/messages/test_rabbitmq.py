"""RabbitMQ: what is declared and sent, on a broker of a few lines; the real one is in the
integration tests.
"""

from typing import Any, cast

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from pamqp.commands import Basic

from lane_router import LaneError, current_lane, lane_scope
from lane_router.messages.rabbitmq import LaneQueue, in_message_lane, mark
from microservice_core import InvalidValueError


class Channel:
    """Queues by name; what no queue takes comes back, as on a broker."""

    def __init__(self, *, confirms: bool = True, raising: bool = False) -> None:
        self.queues: dict[str, list[aio_pika.Message]] = {}
        self.arguments: dict[str, Any] = {}
        self.confirms = confirms
        self.raising = raising

    @property
    def default_exchange(self) -> "Channel":
        return self

    async def declare_queue(self, name: str, *, durable: bool, arguments: Any = None) -> str:
        self.queues.setdefault(name, [])
        self.arguments[name] = arguments
        return name

    async def publish(self, message: aio_pika.Message, key: str, *, mandatory: bool) -> object:
        if key in self.queues:
            self.queues[key].append(message)
            return Basic.Ack() if self.confirms else None
        if self.raising:
            raise aio_pika.exceptions.DeliveryError(None, Basic.Return())
        return object()


def channel(**options: bool) -> tuple[Channel, AbstractChannel]:
    broker = Channel(**options)
    return broker, cast(AbstractChannel, broker)


@pytest.mark.parametrize("raising", [True, False])
async def test_lesson_b_header_and_queue_always_say_the_same(raising: bool) -> None:
    broker, door = channel(raising=raising)
    orders = LaneQueue("orders")
    await orders.declare(door)
    await orders.declare(door, "dev")
    for lane, expected in (
        ("dev", "orders.dev"),
        ("other", "orders"),
        (None, "orders"),
        ("prod", "orders"),
    ):
        with lane_scope(lane):
            assert await orders.publish(door, aio_pika.Message(b"x")) == expected
    assert [message.headers["x-lane"] for message in broker.queues["orders.dev"]] == ["dev"]
    assert [message.headers.get("x-lane") for message in broker.queues["orders"]] == [
        "other",
        None,
        None,
    ]


async def test_lesson_c_a_lanes_queue_falls_back_and_lesson_d_a_delaying_one_does_not() -> None:
    broker, door = channel()
    await LaneQueue("orders").declare(door, "dev")
    await LaneQueue("later", patience_seconds=None).declare(door, "dev")
    await LaneQueue("orders").declare(door, "prod")
    assert broker.arguments == {
        "orders.dev": {
            "x-expires": 3_600_000,
            "x-message-ttl": 10_000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "orders",
        },
        "later.dev": {"x-expires": 3_600_000},
        "orders": None,
    }


async def test_a_message_that_no_queue_took_is_an_error() -> None:
    _, door = channel()
    with pytest.raises(LaneError, match="no queue 'orders' accepted the message"):
        await LaneQueue("orders").publish(door, aio_pika.Message(b"x"))
    unconfirmed, door = channel(confirms=False)
    unconfirmed.queues["orders"] = []
    with pytest.raises(LaneError, match="no publisher confirms"):
        await LaneQueue("orders").publish(door, aio_pika.Message(b"x"))


async def test_a_callback_runs_in_the_lane_of_each_message() -> None:
    lanes: list[str | None] = []

    async def handler(message: AbstractIncomingMessage) -> None:
        lanes.append(current_lane())

    consume = in_message_lane(handler)
    with lane_scope("consumer"):
        for lane in ("dev", None, "D"):
            message = aio_pika.Message(b"x", headers={"x-lane": lane} if lane else {})
            await consume(cast(AbstractIncomingMessage, message))
    assert lanes == ["dev", None, None]


def test_a_header_of_the_user_is_never_clobbered() -> None:
    message = aio_pika.Message(b"x", headers={"x-lane": "mine", "n": 7})
    with lane_scope("dev"):
        assert mark(message) == "mine"
    assert message.headers == {"x-lane": "mine", "n": 7}


@pytest.mark.parametrize(
    "options",
    [{"name": ""}, {"name": "q", "patience_seconds": 0}, {"name": "q", "expires_seconds": 0}],
)
def test_a_wrong_option_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError):
        LaneQueue(**options)
