"""RabbitMQ with aio-pika: a queue per lane, whose messages go to the base when nobody takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import DeliveryError, PublishError

from lane_router.context.lane_name import PROD
from lane_router.errors import LaneError
from microservice_core import InvalidValueError

from .headers import lane_of, message_scope, with_lane

if TYPE_CHECKING:
    from pamqp.common import FieldValue

__all__ = ("LaneQueue", "in_message_lane", "mark")

Handler = Callable[[AbstractIncomingMessage], Awaitable[None]]


def mark(message: aio_pika.Message) -> str | None:
    """Put the present lane into the message's headers, unless there is one; the lane it then has."""
    headers: dict[str, Any] = with_lane(message.headers)
    message.headers = headers
    return lane_of(headers)


def in_message_lane(handler: Handler) -> Handler:
    """The callback of a consumer, run in the lane of each message."""

    async def handle(message: AbstractIncomingMessage) -> None:
        with message_scope(message.headers):
            await handler(message)

    return handle


class LaneQueue:
    """A base queue, and beside it one per lane that has consumers.

    A message of a lane goes to the lane's queue when there is one, else to the base's. What nobody
    takes within `patience_seconds` goes to the base by dead-lettering, its headers with it.

    Args:
        name: the base queue; that of lane `dev` is called `NAME.dev`.
        patience_seconds: None for a queue that is meant to delay: it must not fall back.
        expires_seconds: a lane's queue that nobody used for so long is deleted by the broker.

    Raises:
        InvalidValueError: an empty name, or a time that is not above 0.
    """

    def __init__(
        self,
        name: str,
        *,
        durable: bool = True,
        patience_seconds: float | None = 10.0,
        expires_seconds: float = 3600.0,
    ) -> None:
        if not name:
            raise InvalidValueError("name", name, "the name of a queue")
        for field, seconds in (
            ("patience_seconds", patience_seconds),
            ("expires_seconds", expires_seconds),
        ):
            if seconds is not None and not 0.001 <= seconds <= 4e6:
                raise InvalidValueError(field, seconds, "a number of seconds from 0.001 to 4e6")
        self.name = name
        self._durable = durable
        self._patience = patience_seconds
        self._expires = expires_seconds

    def name_of(self, lane: str | None) -> str:
        """The queue of this lane."""
        return self.name if lane is None or lane == PROD else f"{self.name}.{lane}"

    async def declare(self, channel: AbstractChannel, lane: str | None = None) -> AbstractQueue:
        """Declare the queue that a consumer of this lane reads; None = the base's."""
        if lane is None or lane == PROD:
            return await channel.declare_queue(self.name, durable=self._durable)
        arguments: dict[str, FieldValue] = {"x-expires": round(self._expires * 1000)}
        if self._patience is not None:
            arguments |= {
                "x-message-ttl": round(self._patience * 1000),
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self.name,
            }
        return await channel.declare_queue(
            self.name_of(lane), durable=self._durable, arguments=arguments
        )

    async def publish(self, channel: AbstractChannel, message: aio_pika.Message) -> str:
        """Send it in the present lane; the name of the queue that took it.

        The lane is decided once: the header and the queue always say the same. The channel has to
        have publisher confirms, which is aio-pika's default.

        Raises:
            LaneError: no queue took it, not even the base's, or there are no confirms.
        """
        lane = mark(message)
        if lane is not None and lane != PROD:
            name = self.name_of(lane)
            if await self._sent(channel, message, name):
                return name
        if not await self._sent(channel, message, self.name):
            raise LaneError(f"no queue {self.name!r} took the message; declare it first")
        return self.name

    async def _sent(self, channel: AbstractChannel, message: aio_pika.Message, name: str) -> bool:
        try:
            answer = await channel.default_exchange.publish(message, name, mandatory=True)
        except (DeliveryError, PublishError):
            return False
        if answer is None:
            raise LaneError("the channel has no publisher confirms; open it with them")
        # A message that no queue took comes back instead of the acknowledgement.
        return getattr(answer, "name", "") == "Basic.Ack"
