"""The `orders` service: returns its own labels, and the greeting of its configuration document."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from microservice_kit import Microservice


class OrdersConfig(BaseModel):
    greeting: str = "hello"


micro = Microservice(service_name="orders", config=OrdersConfig)
app = FastAPI(lifespan=micro.lifespan)


@app.get("/v1/orders/{order_id}")
async def get_order(order_id: int) -> dict[str, str | int]:
    settings = micro.settings
    return {
        "order": order_id,
        "greeting": micro.config.current.greeting,
        "port": settings.port or 0,
        "version": settings.version,
        "lane": settings.lane,
    }


@app.get("/configuration")
async def get_configuration() -> dict[str, str | int | None]:
    """Return the version in use, the one it is pinned to, and the problem of the newest documents."""
    config = micro.config
    problem = str(config.problem) if config.problem else None
    return {"version": config.version.id, "pinned": config.pinned, "problem": problem}


@app.post("/configuration/rollback")
async def roll_back() -> int:
    """Go back to the previous version."""
    previous = micro.config.versions[1].id
    micro.config.rollback(previous)
    return previous


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=micro.settings.port or 0, log_level="warning")
