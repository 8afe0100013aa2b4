"""FastAPI applications on uvicorn, a port each: bare, or with everything of the kit around them.

python served.py bare:8001 kit:8002
"""

import asyncio
import sys

import uvicorn
from fastapi import FastAPI


def with_kit(*, telemetry: bool) -> FastAPI:
    from lane_router import LaneMiddleware
    from microservice_kit import Microservice, TracingMiddleware, setup_telemetry

    if telemetry:
        setup_telemetry("bench", prometheus=True)
    micro = Microservice(service_name="bench", service_registry="memory", config_center="memory")
    app = FastAPI(lifespan=micro.lifespan)
    app.add_middleware(TracingMiddleware)
    app.add_middleware(LaneMiddleware)
    return app


def application(variant: str) -> FastAPI:
    app = FastAPI() if variant == "bare" else with_kit(telemetry=variant == "telemetry")

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> dict[str, int]:
        return {"order": order_id}

    return app


async def main(wanted: list[str]) -> None:
    servers = []
    for one in wanted:
        variant, port = one.split(":")
        config = uvicorn.Config(
            application(variant),
            port=int(port),
            log_level="error",
            access_log=False,
            # One connection each, which on a busy machine waits long for its turn.
            timeout_keep_alive=600,
        )
        servers.append(uvicorn.Server(config))
    await asyncio.gather(*(server.serve() for server in servers))


asyncio.run(main(sys.argv[1:]))
