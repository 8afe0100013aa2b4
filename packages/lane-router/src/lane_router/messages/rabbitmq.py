"""RabbitMQ with aio-pika: a queue per lane, whose unread messages fall back to the base queue."""

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
    """Add the current lane to the message's headers unless one is set.

    Returns:
        the lane the message then has; None = no lane.
    """
    headers: dict[str, Any] = with_lane(message.headers)
    message.headers = headers
    return lane_of(headers)


def in_message_lane(handler: Handler) -> Handler:
    """Wrap a consumer's callback so that it runs in the lane of each message."""

    async def handle(message: AbstractIncomingMessage) -> None:
        with message_scope(message.headers):
            await handler(message)

    return handle


class LaneQueue:
    """A base queue, and beside it one queue per lane that has consumers.

    A message of a lane goes to the lane's queue if there is one, else to the base queue. A message
    that no consumer reads within `patience_seconds` is dead-lettered to the base queue, with its
    headers.

    Args:
        name: the base queue; that of lane `dev` is called `NAME.dev`.
        patience_seconds: None for a queue that is meant to delay, which must not fall back.
        expires_seconds: the broker deletes a lane's queue that was not used for this long.

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
        """The name of the queue of this lane; None = of the base."""
        return self.name if lane is None or lane == PROD else f"{self.name}.{lane}"

    async def declare(self, channel: AbstractChannel, lane: str | None = None) -> AbstractQueue:
        """Declare the queue that a consumer of this lane reads; None = the base queue."""
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
        """Send a message in the current lane.

        The lane is decided once, so that the header and the queue always agree. The channel must
        have publisher confirms, which is aio-pika's default.

        Returns:
            the name of the queue that accepted the message.

        Raises:
            LaneError: no queue accepted it, not even the base queue, or there are no confirms.
        """
        lane = mark(message)
        if lane is not None and lane != PROD:
            name = self.name_of(lane)
            if await self._try_publish(channel, message, name):
                return name
        if not await self._try_publish(channel, message, self.name):
            raise LaneError(f"no queue {self.name!r} accepted the message; declare it first")
        return self.name

    async def _try_publish(
        self, channel: AbstractChannel, message: aio_pika.Message, name: str
    ) -> bool:
        try:
            confirmation = await channel.default_exchange.publish(message, name, mandatory=True)
        except (DeliveryError, PublishError):
            return False
        if confirmation is None:
            raise LaneError("the channel has no publisher confirms; open it with them")
        # A channel that does not raise on a returned message hands that back instead of the ack.
        return getattr(confirmation, "name", "") == "Basic.Ack"
