"""Three services in a chain, gateway -> orders -> inventory, as a team would run them in a cluster.

SHOP_SERVICE selects which one a process is. Each is registered in Nacos, reads its greeting from
there, follows the lane of the request at every hop, and passes messages on through a Redis stream.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel
from redis.asyncio import Redis

from lane_router import AsyncLaneRouter, LaneMiddleware, LaneUnavailableError, instrument
from lane_router.messages.consumer_lane import ConsumerLane
from lane_router.messages.redis_streams import LaneStream
from microservice_governance import FixedBackoff, RetryConfig
from microservice_kit import Microservice, TracingMiddleware, json_logs, retry, setup_telemetry

NAME = os.environ.get("SHOP_SERVICE", "gateway")
NEXT = {"gateway": "orders", "orders": "inventory"}.get(NAME)
PORT = 8000
STREAM = "shipments"


class Settings(BaseModel):
    greeting: str = "hello"


telemetry = setup_telemetry(
    NAME, version=os.environ.get("MICROSERVICE_VERSION", ""), prometheus=True
)
micro = Microservice(
    telemetry=telemetry,
    service_name=NAME,
    port=PORT,
    config=Settings,
    documents=["shop.yaml"],
    # An outage of Nacos must not keep a pod from starting: begin with defaults, catch up later.
    on_config_unavailable="degrade",
    on_registry_unavailable="degrade",
)
router = AsyncLaneRouter(
    os.environ.get("LITE_REGISTRY_URL", "http://lite-registry:8080"),
    services={"orders": PORT, "inventory": PORT},
    mode="strict" if os.environ.get("LANE_MODE") == "strict" else "permissive",
)
redis = Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), decode_responses=True)
stream = LaneStream(redis, STREAM)
me = {
    "service": NAME,
    "lane": os.environ.get("MICROSERVICE_LANE") or "base",
    "version": os.environ.get("MICROSERVICE_VERSION", ""),
    "pod": socket.gethostname(),
}


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    instrument(router)
    async with micro.lifespan(app) as state, router, httpx.AsyncClient(timeout=2.0) as http:
        consumer = asyncio.ensure_future(consume()) if NAME == "inventory" else None
        yield {**state, "http": http}
        if consumer is not None:
            consumer.cancel()


app = FastAPI(lifespan=lifespan)
app.add_middleware(LaneMiddleware)
app.add_middleware(TracingMiddleware)


@retry(
    "next",
    RetryConfig(on=(httpx.TransportError,), attempts=5, backoff=FixedBackoff(0.1), idempotent=True),
)
async def call_next(http: httpx.AsyncClient, path: str) -> object:
    response = await http.get(f"http://{NEXT}:{PORT}{path}")
    if response.status_code == 503:
        raise HTTPException(503, response.json().get("detail"))
    response.raise_for_status()
    return response.json()


@app.get("/chain")
async def get_chain(request: Request) -> dict[str, object]:
    """Return the instance that responded at each hop."""
    hop: dict[str, object] = {**me, "greeting": micro.config.current.greeting}
    if NEXT is not None:
        try:
            hop["next"] = await call_next(request.state.http, "/chain")
        except LaneUnavailableError as error:
            raise HTTPException(503, str(error)) from error
        except httpx.HTTPError as error:
            raise HTTPException(502, f"{NEXT}: {type(error).__name__}") from error
    return hop


@app.post("/ship/{order_id}")
async def ship(order_id: str) -> dict[str, str]:
    """Put a message on the stream; it keeps the lane of this request."""
    return {"message": await stream.add({"order": order_id})}


@app.get("/shipped/{order_id}")
async def get_shipped(order_id: str) -> list[str]:
    """Return the lanes in which the message was handled."""
    return [str(lane) for lane in await redis.lrange(f"shipped:{order_id}", 0, -1)]


@app.post("/eat/{megabytes}")
async def eat(megabytes: int) -> int:
    """Use this much memory, to see what the cluster does about it."""
    memory.append(bytearray(os.urandom(1) * (megabytes * 1024 * 1024)))
    return sum(map(len, memory))


memory: list[bytearray] = []


async def consume() -> None:
    """Handle the messages of this lane, for as long as the process lives."""
    lane = ConsumerLane("inventory", service="inventory", router=router)

    async def note(_identity: str, fields: dict[str, str]) -> None:
        await redis.rpush(f"shipped:{fields['order']}", me["lane"])

    while True:
        try:
            await stream.join(lane)
            await stream.read(lane, me["pod"], note, block_seconds=1.0)
        except OSError:
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    json_logs(service=NAME)
    uvicorn.run(app, host="0.0.0.0", port=PORT, log_config=None, access_log=False)  # noqa: S104
