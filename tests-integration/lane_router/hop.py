"""One service of the chain: `python hop.py NAME PORT REGISTRY [FOREIGN]`, a Starlette application.

It tells the lane it runs in and asks the next one in every way a request can go on: from a task, a
thread pool, a background task, a WebSocket, and along a redirect out of the mesh. No handler says a
word about lanes.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import httpx
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from lane_router import LaneMiddleware, LaneRouter, current_lane, instrument, patch_executors

NAME, PORT, REGISTRY = sys.argv[1], int(sys.argv[2]), sys.argv[3]
FOREIGN = sys.argv[4] if len(sys.argv) > 4 else ""

router = LaneRouter(REGISTRY, services={"second": 1, "third": 1})
instrument(router)
patch_executors()

pool = ThreadPoolExecutor(4)
noted: list[str | None] = []


def told(**more: Any) -> dict[str, Any]:
    return {"name": NAME, "lane": current_lane(), **more}


async def ask(path: str) -> Any:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://second{path}")).json()


async def chain(request: Request) -> Response:
    if NAME == "first":
        return JSONResponse(told(next=await ask("/chain")))
    async with grpc.aio.insecure_channel("third") as channel:
        look: Any = channel.unary_unary("/third/Look")
        third = await look(b"")
    return JSONResponse(told(next=third.decode()))


def blocking() -> Any:
    with requests.Session() as session:
        session.trust_env = False
        second = session.get("http://second/look", timeout=10).json()
    with grpc.insecure_channel("third") as channel:
        look: Any = channel.unary_unary("/third/Look")
        return told(next=second, third=look(b"").decode())


async def in_thread(request: Request) -> Response:
    loop = asyncio.get_running_loop()
    return JSONResponse(await loop.run_in_executor(pool, blocking))


async def in_background(request: Request) -> Response:
    async def later() -> None:
        noted.append((await ask("/look"))["lane"])

    return JSONResponse(told(), background=BackgroundTask(later))


async def streamed(request: Request) -> Response:
    async def parts() -> Any:
        for _ in range(2):
            yield f"{current_lane()}:{(await ask('/look'))['lane']};".encode()

    return StreamingResponse(parts())


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for _ in websocket.iter_text():
        await websocket.send_json(told(next=await ask("/chain")))


async def redirected(request: Request) -> Response:
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
        answer = await client.get("http://second/away", headers={"baggage": "user=7"})
        return JSONResponse(told(status=answer.status_code, last=str(answer.url)))


async def away(request: Request) -> Response:
    return RedirectResponse(FOREIGN)


async def look(request: Request) -> Response:
    return JSONResponse(told(noted=noted))


app = Starlette(
    routes=[
        Route("/chain", chain),
        Route("/thread", in_thread),
        Route("/background", in_background),
        Route("/streamed", streamed),
        Route("/redirected", redirected),
        Route("/away", away),
        Route("/look", look),
        WebSocketRoute("/socket", socket),
    ]
)

if __name__ == "__main__":
    uvicorn.run(LaneMiddleware(app), port=PORT, log_level="warning")
