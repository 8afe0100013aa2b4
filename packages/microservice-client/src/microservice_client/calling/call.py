"""A call in progress: its request, its settings, and the attempts that were made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import httpx

from microservice_client.call_options import CallOptions
from microservice_client.errors import Attempt, NoFreeConnectionError
from microservice_client.policy import ServicePolicy

__all__ = ("Call", "ConnectionWait")


@dataclass(frozen=True, slots=True)
class ConnectionWait:
    """A call's wait for a free connection to an instance.

    Attributes:
        instance_id: the instance.
        limit: most connections to it; None if the transport does not say.
        started_at: clock time at which the wait began.
    """

    instance_id: str
    limit: int | None
    started_at: float


@dataclass(slots=True)
class Call:
    """A call in progress; instance filters get it as their context.

    Attributes:
        service_name: the service that is called.
        request: the request to the service; an attempt sends a copy to an instance.
        options: the options of this call.
        policy: that of the options, or else the service's.
        reading: whether the body is read before the caller gets the response.
        traced: whether spans are made.
        measured: whether metrics are recorded.
        attempts: the attempts that have ended.
        tried: the ids of instances not to choose again while there are others.
        last_response: the response of an attempt that a further one may replace.
        timer: ends the call when its time is over.
        connection_wait: the wait for a free connection, while there is one.
        has_inherited_deadline: whether the time limit is an outer deadline's and not the client's.
        raw_headers: those of the request, once it is known that they can be sent.
    """

    service_name: str
    request: httpx.Request
    options: CallOptions
    policy: ServicePolicy
    reading: bool = False
    traced: bool = False
    measured: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    last_response: httpx.Response | None = None
    timer: asyncio.Timeout | None = None
    connection_wait: ConnectionWait | None = None
    has_inherited_deadline: bool = False
    raw_headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def restart(self, request: httpx.Request) -> Call:
        """Return the call as at its start, with that request; it shares the list of attempts."""
        return replace(
            self,
            request=request,
            tried=set(),
            last_response=None,
            timer=None,
            connection_wait=None,
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        return self.request.headers

    def no_connection_error(self, wait: ConnectionWait, now: float) -> NoFreeConnectionError:
        """The error of a wait for a connection that has ended without one."""
        return NoFreeConnectionError(
            self.service_name,
            wait.instance_id,
            limit=wait.limit,
            waited_seconds=now - wait.started_at,
            attempts=self.attempts,
        )

    def has_timed_out(self) -> bool:
        """Whether the present cancellation comes from the call's own time limit."""
        return self.timer is not None and self.timer.expired()

    async def replace_last_response(self, response: httpx.Response | None) -> None:
        """Keep this response in case that no better one follows, and close the previous one."""
        previous, self.last_response = self.last_response, response
        if previous is not None:
            await previous.aclose()
