"""An instance of `orders` in a process of its own: says who it is, and misbehaves when asked to."""

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

NAME = os.environ.get("NAME", "?")
app = FastAPI()


@app.get("/who")
async def who(delay: float = 0.0) -> str:
    await asyncio.sleep(delay)
    return NAME


@app.post("/echo")
async def echo(request: Request) -> Response:
    return Response(await request.body(), headers={"x-name": NAME})


@app.get("/status/{status}")
async def status(status: int, retry_after: str = "") -> Response:
    headers = {"retry-after": retry_after} if retry_after else {}
    return Response(status_code=status, headers=headers)


@app.get("/events")
async def events(count: int = 3) -> StreamingResponse:
    async def written() -> AsyncIterator[str]:
        for number in range(count):
            yield f"id: {number}\ndata: {NAME}\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(written(), media_type="text/event-stream")
