"""A response's body that keeps its instance busy until its last byte was read, or its reader left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import httpx

from microservice_client.errors import AnswerFormatError, BodyBrokenError
from microservice_client.http.cancellation import CancelSafeStream

from .call import Call, Trial

__all__ = ("LeasedStream",)


async def read(response: httpx.Response) -> None:
    """Read a response with a `LeasedStream` to its end and close it.

    Raises:
        BodyBrokenError: it broke off.
        AnswerFormatError: it is not encoded as its header says.
    """
    stream = response.stream
    assert isinstance(stream, LeasedStream)  # noqa: S101 - every attempt's is one
    # Taken whole and decoded without the four generators that `aread` runs it through.
    response.stream = httpx.ByteStream(await stream.whole())
    try:
        response.read()
    except httpx.DecodingError as error:
        encoding = f"body of content-encoding {response.headers['content-encoding']}"
        raise AnswerFormatError(stream.service, encoding, str(error)) from error


class LeasedStream(httpx.AsyncByteStream):
    """Ends the trial with the body.

    A body that breaks off is a failure of the instance. A reader who leaves early, or a body that
    takes longer than `patience_seconds`, says nothing of how fast the instance is.
    """

    def __init__(
        self,
        response: httpx.Response,
        trial: Trial,
        *,
        call: Call,
        patience_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - it came async
        self._stream = response.stream
        self._response = response
        self._trial = trial
        self._call = call
        self._tell: Callable[[], None] | None = None
        self._patience_seconds = patience_seconds
        self._clock = clock

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except httpx.TransportError as error:
            raise self._broken(error) from error
        self._ended()

    @property
    def service(self) -> str:
        """Whose answer it is."""
        return self._call.service_name

    def when_closed(self, tell: Callable[[], None]) -> None:
        """Have somebody told, once, when the body is closed."""
        self._tell = tell

    async def whole(self) -> bytes:
        """All of the body; closes it, whatever happens.

        Raises:
            BodyBrokenError: it broke off.
        """
        try:
            body = await _whole(self._stream)
            self._ended()
        except httpx.TransportError as error:
            raise self._broken(error) from error
        except asyncio.CancelledError as error:
            # To the instance, being too slow for its caller is a failure.
            self._trial.end(TimeoutError() if self._call.ran_out() else error)
            raise
        finally:
            await self.aclose()
        return body

    def _broken(self, error: httpx.TransportError) -> BodyBrokenError:
        self._trial.end(error)
        return BodyBrokenError(self._call.service_name, self._call.attempts)

    def _ended(self) -> None:
        took = self._clock() - self._trial.began
        self._response.elapsed = timedelta(seconds=took)
        self._trial.end(measured=took <= self._patience_seconds)

    async def aclose(self) -> None:
        """Close the body and give everything back."""
        try:
            await self._stream.aclose()
        finally:
            self._give_back()

    def __del__(self) -> None:
        # Dropped unclosed: the connection is the collector's business, the rest is not.
        with contextlib.suppress(RuntimeError):  # no loop in this thread
            self._give_back()

    def _give_back(self) -> None:
        self._trial.end(measured=False)
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()


async def _whole(stream: httpx.AsyncByteStream) -> bytes:
    if isinstance(stream, CancelSafeStream):
        return await stream.whole()
    chunks = [chunk async for chunk in stream]
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
