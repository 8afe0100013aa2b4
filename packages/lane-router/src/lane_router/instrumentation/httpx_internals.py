# ruff: noqa: SLF001 - the one module that touches private names of httpx and httpx2
"""A copy of an httpx request with other header fields and another host, cheaply where possible.

The public way takes a request apart and validates it again, which costs several times as much as the
routing itself. The private way puts the copy together from parts that are valid already.
`request_parts` tries both on a sample and chooses the private one only if the results are the same,
so a release of httpx that renames or rearranges something makes requests slower, not wrong.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol

from lane_router.propagation.carriers import RawField

__all__ = (
    "Fields",
    "PrivateRequestParts",
    "PublicRequestParts",
    "Request",
    "RequestParts",
    "request_parts",
)

# httpx's and httpx2's own types, of which only one may be installed.
Request = Any

Fields = list[RawField]


class RequestParts(Protocol):
    """Reads and copies the requests of one library."""

    def read(self, request: Request) -> tuple[str, str, int | None, Fields]:
        """(scheme, host, port, header fields); the port is None when it is the scheme's default."""
        ...

    def copy(
        self, request: Request, fields: Fields, host: str | None = None, port: int | None = None
    ) -> Request:
        """A copy with these header fields, on this host and port; the request itself stays as it is.

        Body and extensions are the same objects.

        Args:
            host: None = the request's own host and port.
            port: None = the default of the request's scheme; never that number itself.
        """
        ...


class PublicRequestParts:
    """By public names only."""

    def __init__(self, library: ModuleType) -> None:
        self._request_type = library.Request
        self._headers_type = library.Headers

    def read(self, request: Request) -> tuple[str, str, int | None, Fields]:
        """See `RequestParts`."""
        url = request.url
        fields = [(name, name.lower(), value) for name, value in request.headers.raw]
        return url.scheme, url.raw_host.decode("ascii"), url.port, fields

    def copy(
        self, request: Request, fields: Fields, host: str | None = None, port: int | None = None
    ) -> Request:
        """See `RequestParts`."""
        url = request.url if host is None else request.url.copy_with(host=host, port=port)
        # With `stream` the constructor adds no header fields of its own.
        copy = self._request_type(request.method, url, stream=request.stream)
        copy.headers = self._headers_type(
            [(name, value) for name, _, value in fields], encoding=request.headers.encoding
        )
        copy.extensions = request.extensions
        if _is_read(request):
            copy.read()
        return copy


class PrivateRequestParts:
    """From the parts as httpx 0.28 and httpx2 2.x keep them."""

    def read(self, request: Request) -> tuple[str, str, int | None, Fields]:
        """See `RequestParts`."""
        parts = request.url._uri_reference
        return parts.scheme, parts.host, parts.port, request.headers._list

    def copy(
        self, request: Request, fields: Fields, host: str | None = None, port: int | None = None
    ) -> Request:
        """See `RequestParts`."""
        # Not copy.copy: the request's __getstate__ leaves the body behind.
        copy = object.__new__(type(request))
        copy.__dict__.update(request.__dict__)
        copy.headers = headers = object.__new__(type(request.headers))
        headers._encoding = request.headers._encoding
        headers._list = fields
        if host is not None:
            url = request.url
            scheme, userinfo, _, _, path, query, fragment = parts = url._uri_reference
            copy.url = routed_url = object.__new__(type(url))
            routed_url._uri_reference = parts._make(
                (scheme, userinfo, host, port, path, query, fragment)
            )
        return copy


def request_parts(library: ModuleType) -> RequestParts:
    """The cheapest way that works with this release of httpx or httpx2."""
    public, private = PublicRequestParts(library), PrivateRequestParts()
    try:
        same = _describe(private, library) == _describe(public, library)
    except Exception:  # noqa: BLE001 - whatever an unknown release raises, the public way remains
        same = False
    return private if same else public


def _describe(parts: RequestParts, library: ModuleType) -> object:
    """All that can be seen of a sample request and its copy, done this way."""
    url = "http://user:secret@host:81/a%20b?q=%26#f"
    request = library.Request("POST", url, headers={"X-A": "1"}, content=b"body")
    fields: Fields = [(b"X-B", b"x-b", b"2"), (b"Host", b"host", b"other:82")]
    copies = [parts.copy(request, fields), parts.copy(request, fields, "other", 82)]
    return parts.read(request), [
        (copy.method, str(copy.url), copy.headers.raw, copy.content, copy.stream is request.stream)
        for copy in copies
    ]


def _is_read(request: Request) -> bool:
    try:
        _ = request.content
    except Exception:  # noqa: BLE001 - the library's RequestNotRead
        return False
    return True
