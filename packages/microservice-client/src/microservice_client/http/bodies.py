"""Bodies of responses, read and decoded piece by piece, so that a small one cannot fill the memory.

Sources: RFC 9110, 8.4 "Content-Encoding"; RFC 1950 to 1952 for `deflate` and `gzip`.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, Iterator

import httpx

__all__ = (
    "ACCEPTED_CODINGS",
    "BOUNDED_CODINGS",
    "UnreadableCodingError",
    "decode_body",
    "find_coding",
    "read_body",
    "slice_chunk",
)

ACCEPTED_CODINGS = "gzip, deflate"
"""The codings that are asked for; those of further libraries cannot be decoded within a bound."""

BOUNDED_CODINGS = frozenset({"gzip", "deflate"})
"""The codings that can be decoded within a bound."""

# Those that httpx decodes, some of them only with a library that may be installed.
_CODINGS = BOUNDED_CODINGS | {"br", "zstd"}
_SLICE_BYTES = 16_384
_PIECE_BYTES = 1_048_576


class UnreadableCodingError(Exception):
    """A body has more than one content coding, or one that was not asked for.

    Attributes:
        codings: the codings.
        reason: what is wrong with them.
    """

    def __init__(self, codings: list[str], reason: str) -> None:
        super().__init__(reason)
        self.codings = ", ".join(codings)
        self.reason = reason


async def read_body(stream: AsyncIterable[bytes], max_bytes: int) -> bytes | None:
    """Read a whole body as it is sent; None if it is longer than `max_bytes`."""
    chunks, size = [], 0
    async for chunk in stream:
        size += len(chunk)
        if size > max_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def find_coding(response: httpx.Response, accepted: str = "") -> str:
    """Return the one content coding of a response's body; empty if there is none.

    Names that are no coding are ignored, as httpx does.

    Args:
        response: the response.
        accepted: the request's `Accept-Encoding`; what it names is allowed beside gzip and deflate.

    Raises:
        UnreadableCodingError: there are several, or it is neither gzip nor deflate nor accepted.
    """
    names = response.headers.get("content-encoding", "").lower().split(",")
    codings = [name for name in map(str.strip, names) if name in _CODINGS]
    if not codings:
        return ""
    if len(codings) > 1:
        raise UnreadableCodingError(codings, "it has several codings, and one is read")
    if codings[0] not in BOUNDED_CODINGS and codings[0] not in accepted.lower():
        raise UnreadableCodingError(codings, "only gzip and deflate are read")
    return codings[0]


def slice_chunk(chunk: bytes) -> Iterator[bytes]:
    """Cut a piece of an encoded body so that each part decodes to 16 MiB at most."""
    for start in range(0, len(chunk), _SLICE_BYTES):
        yield chunk[start : start + _SLICE_BYTES]


def decode_body(coding: str, body: bytes, max_bytes: int) -> bytes | None:
    """Decode a whole body; None if it is longer than `max_bytes` decoded.

    Raises:
        zlib.error: the body is not encoded so.
    """
    if coding == "gzip":
        return _decompress(body, max_bytes, zlib.MAX_WBITS | 16)
    try:
        return _decompress(body, max_bytes, zlib.MAX_WBITS)
    except zlib.error:
        # Some servers send raw deflate without the zlib header that the name stands for.
        return _decompress(body, max_bytes, -zlib.MAX_WBITS)


def _decompress(body: bytes, max_bytes: int, window_bits: int) -> bytes | None:
    decompressor = zlib.decompressobj(window_bits)
    pieces, size = [], 0
    for part in slice_chunk(body):
        rest = part
        while not decompressor.eof:
            piece = decompressor.decompress(rest, _PIECE_BYTES)
            rest = decompressor.unconsumed_tail
            if not piece and not rest:
                break  # all of this part is decoded
            size += len(piece)
            if size > max_bytes:
                return None
            pieces.append(piece)
    return b"".join(pieces)
