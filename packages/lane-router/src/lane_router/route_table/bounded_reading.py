"""A response read within a deadline and a size, whatever the server sends."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from http.client import HTTPResponse

__all__ = (
    "LARGEST_BODY",
    "BoundedSocket",
    "RegistryUnreachableError",
    "parse_age",
    "parse_etag",
    "read_body",
)

LARGEST_BODY = 16 * 1024 * 1024
_LARGEST_HEAD = 256 * 1024
_CHUNK = 64 * 1024
_OLDEST = 2**31  # RFC 9111, section 1.2.2: a larger age counts as this one
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,256}"')


class RegistryUnreachableError(Exception):
    """The request failed or its response is not usable; the message is the reason.

    Attributes:
        retry_after_seconds: how long the registry asked its clients to wait; None = it did not.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class BoundedSocket:
    """What `http.client` needs of a socket; reading from it has a deadline and a size.

    The time-out of a socket starts again with each read, so that a head or body which arrives a
    byte at a time, or interim responses without end, would hold the client for ever.

    Args:
        deadline: when the response has to be complete, by `clock`.
    """

    def __init__(
        self, connected: socket.socket, *, deadline: float, clock: Callable[[], float]
    ) -> None:
        self._socket = connected
        self._deadline = deadline
        self._clock = clock
        self._readers: list[_BoundedReader] = []

    def sendall(self, data: bytes) -> None:
        """Send the request."""
        self._socket.sendall(data)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """The file that the response is read from."""
        self._readers.append(_BoundedReader(self._socket, self._deadline, self._clock))
        return io.BufferedReader(self._readers[-1])

    def expect_body(self) -> None:
        """Allow as much as a body may have: the head is complete."""
        for reader in self._readers:
            reader.largest = _LARGEST_HEAD + LARGEST_BODY

    def close(self) -> None:
        """Close the socket; the response that is being read keeps it open until its own end."""
        self._socket.close()


class _BoundedReader(io.RawIOBase):
    def __init__(
        self, connected: socket.socket, deadline: float, clock: Callable[[], float]
    ) -> None:
        self.largest = _LARGEST_HEAD
        self._received = 0
        self._socket = connected
        self._file: Any = connected.makefile("rb", buffering=0)
        self._deadline = deadline
        self._clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise RegistryUnreachableError("the response did not end in time")
        if self._received > self.largest:
            raise RegistryUnreachableError(f"the response is larger than {self.largest} bytes")
        self._socket.settimeout(remaining)
        received = int(self._file.readinto(buffer))
        self._received += received
        return received

    def close(self) -> None:
        self._file.close()
        super().close()


def read_body(response: HTTPResponse) -> bytes:
    """The body, decoded.

    Raises:
        RegistryUnreachableError: it is cut off, too large, or encoded in a way that was not asked
            for.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity", "gzip", "x-gzip"}:
        raise RegistryUnreachableError(f"the body is encoded as {coding[:40]!a}, not as gzip")
    gzip = _GzipDecoder() if coding.endswith("gzip") else None
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk if gzip is None else gzip.decode(chunk, LARGEST_BODY + 1 - len(body))
        if len(body) > LARGEST_BODY:
            raise RegistryUnreachableError(f"the response is larger than {LARGEST_BODY} bytes")
    if response.length or (gzip is not None and not gzip.is_complete):
        raise RegistryUnreachableError("the response was cut off")
    return bytes(body)


class _GzipDecoder:
    """Decodes gzip piece by piece, no more at a time than the caller has room for."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    @property
    def is_complete(self) -> bool:
        return self._member.eof

    def decode(self, data: bytes, most: int) -> bytes:
        """What the data decodes to; at `most` bytes the rest is dropped."""
        decoded = bytearray()
        while data and len(decoded) < most:
            if self._member.eof:  # RFC 1952: a file is one member or several
                self._member = zlib.decompressobj(wbits=31)
            try:
                decoded += self._member.decompress(data, most - len(decoded))
            except zlib.error as error:
                raise RegistryUnreachableError(f"the body is not gzip: {error}") from error
            data = self._member.unused_data or self._member.unconsumed_tail
        return bytes(decoded)


def parse_age(text: str | None) -> float | None:
    """The `Age` field in seconds; None when it is absent or no number."""
    # isdigit alone accepts characters such as a superscript two, which float refuses.
    return min(float(text), _OLDEST) if text and text.isascii() and text.isdigit() else None


def parse_etag(text: str | None) -> str:
    """The `ETag` field if it can be sent back as it is, else an empty text."""
    return text if text and _ETAG.fullmatch(text) else ""
