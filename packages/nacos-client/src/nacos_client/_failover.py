"""Send one request until a server responds: server choice, retries elsewhere, one deadline."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._backoff import backoff_seconds, jittered
from ._responses import read_data, read_document
from ._servers import Servers
from ._steps import Clock, NoResponse, Operation, Request, Response, Send, Sleep
from .errors import AnswerError, DeadlineExceededError, NacosError, ServerUnavailableError

__all__ = ("Failover", "ReadResponse")

_MIN_ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 0.15
_MAX_PAUSE_SECONDS = 2.0

ReadResponse = Callable[[Request, Response, str], Any]
BuildHeaders = Callable[[], Mapping[str, str]]


@dataclass(slots=True)
class _Call:
    """One call under way, with the servers that were tried and what happened at each."""

    request: Request
    build_headers: BuildHeaders
    deadline: float
    seconds: float
    read: ReadResponse
    tried: list[str] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)

    def add_attempt(self, server: str, reason: str) -> None:
        self.tried.append(server)
        self.attempts.append(f"{server}: {reason}")


class Failover:
    """Sends requests as operations without I/O; used from several threads and event loops.

    Args:
        attempt_seconds: the time limit of one attempt on one server.
        headers: sent with every request.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        clock: Clock,
        rng: random.Random,
        attempt_seconds: float,
        headers: Mapping[str, str],
    ) -> None:
        self._servers = servers
        self._clock = clock
        self._rng = rng
        self._attempt_seconds = attempt_seconds
        self._headers = dict(headers)

    def call(
        self,
        request: Request,
        *,
        deadline: float,
        seconds: float,
        read: ReadResponse = read_data,
        build_headers: BuildHeaders = dict,
    ) -> Operation[Any]:
        """Send the request, to further servers if need be, and read the response.

        Args:
            deadline: when the call has to end, on the clock.
            seconds: the whole time limit, for the message of an error.
            read: reads a response, or raises what it means.
            build_headers: makes the headers of one attempt; called for each, since a signature
                holds the time.

        Raises:
            ServerUnavailableError: no server responded; DeadlineExceededError when time ran out.
            AnswerError: the response is an error; see its subclasses.
        """
        call = _Call(request, build_headers, deadline, seconds, read)
        while True:
            server = self._servers.pick(call.tried)
            try:
                return (yield from self._attempt(call, server))
            except NoResponse as silence:
                failure = self._handle_silence(call, server, silence)
            except AnswerError as error:
                failure = self._handle_error(call, server, error)
            yield from self._pause_before_retry(call, failure)

    def call_anonymously(self, request: Request, deadline: float) -> Operation[Any]:
        """Send the request without credentials; the outcome is the whole JSON document.

        Raises:
            NacosError: as `call` does.
        """
        seconds = max(deadline - self._clock(), 0.0)
        return self.call(request, deadline=deadline, seconds=seconds, read=read_document)

    def _attempt(self, call: _Call, server: str) -> Operation[Any]:
        remaining = max(call.deadline - self._clock(), 0.001)
        others = len(set(self._servers.addresses) - {*call.tried, server})
        # A silent server must leave time for another one.
        limit = min(self._attempt_seconds, remaining / 2 if others else remaining)
        headers = {**self._headers, **call.request.headers, **call.build_headers()}
        response = yield Send(server, call.request, headers, limit, remaining)
        data = call.read(call.request, response, server)
        self._servers.record_success(server)
        return data

    def _handle_silence(self, call: _Call, server: str, silence: NoResponse) -> NacosError:
        """Record a server that did not respond; raise where a retry could do harm."""
        if not silence.local:
            self._servers.record_failure(server, silence.reason)
        call.add_attempt(server, silence.reason)
        failure = ServerUnavailableError(call.request.operation, tuple(call.attempts))
        if silence.sent and call.request.retry == "unsent":
            raise failure
        return failure

    def _handle_error(self, call: _Call, server: str, error: AnswerError) -> NacosError:
        """Record a server that failed; raise every error that a retry would not change."""
        if not error.retryable:
            self._servers.record_success(server)
            raise error
        if call.request.retry != "always":
            raise error
        reason = f"HTTP {error.status} {error.detail}".rstrip()
        self._servers.record_failure(server, reason)
        call.add_attempt(server, reason)
        return error

    def _pause_before_retry(self, call: _Call, failure: NacosError) -> Operation[None]:
        """Wait once each server had its turn; raise when attempts or time are used up."""
        servers = max(len(self._servers.addresses), 1)
        if len(call.tried) >= max(_MIN_ATTEMPTS, servers):
            raise failure
        rounds, attempts_of_round = divmod(len(call.tried), servers)
        pause = 0.0 if attempts_of_round else self._pause_seconds(rounds)
        if self._clock() + pause >= call.deadline:
            if isinstance(failure, AnswerError):
                raise failure
            raise DeadlineExceededError(call.request.operation, tuple(call.attempts), call.seconds)
        if pause:
            yield Sleep(pause)

    def _pause_seconds(self, rounds: int) -> float:
        longest = backoff_seconds(
            rounds, initial_seconds=_FIRST_PAUSE_SECONDS, max_seconds=_MAX_PAUSE_SECONDS
        )
        return jittered(longest, "equal", self._rng.random)
