"""A FastAPI application on uvicorn, bare or with everything of the kit around it."""

import sys
import time

import uvicorn
from fastapi import FastAPI

VARIANT = sys.argv[1]


def bare() -> FastAPI:
    return FastAPI()


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


app = bare() if VARIANT == "bare" else with_kit(telemetry=VARIANT == "telemetry")


@app.get("/orders/{order_id}")
async def order(order_id: int) -> dict[str, int]:
    return {"order": order_id}


@app.get("/spent")
async def spent() -> float:
    return time.process_time()


uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
