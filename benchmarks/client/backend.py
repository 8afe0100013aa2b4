"""An instance of `orders`: answers after `DELAY` seconds."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

DELAY = float(os.environ.get("DELAY", "0"))
BODY = b'{"order_id":7,"state":"new","lines":[1,2,3]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],  # noqa: ARG001 - of ASGI
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    if DELAY:
        await asyncio.sleep(DELAY)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
