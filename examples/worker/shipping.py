"""A worker: takes shipments from a Redis stream until SIGTERM. No web framework."""

import asyncio
import contextlib
import os
import signal
import socket
from typing import Any

from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from microservice_kit import ConfigService, MicroserviceModule

STREAM = os.environ.get("STREAM", "shipments")
DONE = os.environ.get("DONE", "shipped")
GROUP = "shipping"
ME = f"{socket.gethostname()}-{os.getpid()}"


class Settings(BaseModel):
    carrier: str = "post"
    batch: int = 10


async def main() -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
    async with (
        Redis.from_url(url, decode_responses=True) as redis,
        MicroserviceModule(
            service_name="shipping", config=Settings, metadata={"kind": "worker"}
        ) as module,
    ):
        module.config.on_change(lambda change: print("now with", change.current, flush=True))
        with contextlib.suppress(ResponseError):  # the group exists already
            await redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        while not stop.is_set():
            await ship_some(redis, module.config)
        await module.leave()
    print("stopped, nothing left half done", flush=True)


async def ship_some(redis: Redis, config: ConfigService[Settings]) -> None:
    """Ship one batch: the entries of a worker that died, else new ones."""
    count = config.current.batch
    claimed = await redis.xautoclaim(STREAM, GROUP, ME, min_idle_time=60_000, count=count)
    entries = claimed[1]
    if not entries:
        streams: Any = await redis.xreadgroup(GROUP, ME, {STREAM: ">"}, count=count, block=500)
        entries = streams[0][1] if streams else []
    for identity, shipment in entries:
        await redis.rpush(DONE, f"{shipment['order']} by {config.current.carrier}")
        await redis.xack(STREAM, GROUP, identity)


asyncio.run(main())
