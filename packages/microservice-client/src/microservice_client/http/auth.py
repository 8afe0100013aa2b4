"""`auth=` of a call, with the meaning that it has in httpx."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx

__all__ = ("Auth", "make_auth", "send_with_auth")

Auth = tuple[str, str] | httpx.Auth
"""User and password for HTTP Basic, or any `httpx.Auth`."""


def make_auth(auth: Auth) -> httpx.Auth:
    """Return what httpx makes of the argument.

    Raises:
        TypeError: it is neither a pair nor an `httpx.Auth`.
    """
    if isinstance(auth, httpx.Auth):
        return auth
    pair: object = auth
    if isinstance(pair, tuple) and len(pair) == 2:
        return httpx.BasicAuth(*pair)
    raise TypeError(
        f"auth must be (user, password) or an httpx.Auth, not {type(auth).__name__}; "
        "for a token of your own, pass it in headers"
    )


async def send_with_auth(
    auth: httpx.Auth,
    request: httpx.Request,
    send: Callable[[httpx.Request], Awaitable[httpx.Response]],
) -> httpx.Response:
    """Send the request, and whatever requests the authentication needs after its response."""
    flow = auth.async_auth_flow(request)
    try:
        request = await anext(flow)
        while True:
            response = await send(request)
            try:
                following = await flow.asend(response)
            except StopAsyncIteration:
                return response
            except BaseException:
                await response.aclose()
                raise
            await response.aread()
            request = following
    finally:
        await flow.aclose()
