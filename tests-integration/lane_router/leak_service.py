"""The service that is stormed: `python leak_service.py PORT`.

Each request looks at its lane in the handler, in a thread pool, in a task and one hop further, and
says what it saw. The lanes of 200 requests at once are on their way through here.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lane_router import LaneMiddleware, current_lane, instrument, patch_executors

PORT = int(sys.argv[1])

instrument(mesh_hosts=["127.0.0.1"], libraries=["aiohttp"])
patch_executors()
pool = ThreadPoolExecutor(8)
sessions: list[aiohttp.ClientSession] = []


async def in_task() -> str | None:
    await asyncio.sleep(0)
    return current_lane()


async def storm(request: Request) -> Response:
    if not sessions:
        sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)))
    loop = asyncio.get_running_loop()
    thread = await loop.run_in_executor(pool, current_lane)
    task = await asyncio.create_task(in_task())
    async with sessions[0].get(f"http://127.0.0.1:{PORT}/look") as answer:
        hop = await answer.text()
    return PlainTextResponse(f"{current_lane()} {thread} {task} {hop}")


async def look(request: Request) -> Response:
    await asyncio.sleep(0)
    return PlainTextResponse(str(current_lane()))


app = Starlette(routes=[Route("/storm", storm), Route("/look", look)])

if __name__ == "__main__":
    uvicorn.run(LaneMiddleware(app), port=PORT, log_level="warning", access_log=False)
