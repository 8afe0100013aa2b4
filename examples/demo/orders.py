"""The `orders` service: says who it is and greets as its configuration document tells it."""

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
async def order(order_id: int) -> dict[str, str | int]:
    me = micro.settings
    return {
        "order": order_id,
        "greeting": micro.config.current.greeting,
        "port": me.port or 0,
        "version": me.version,
        "lane": me.lane,
    }


@app.get("/configuration")
async def configuration() -> dict[str, str | int | None]:
    """The version in force, the one gone back to by hand, and what is wrong with the newest."""
    config = micro.config
    problem = str(config.problem) if config.problem else None
    return {"version": config.version.id, "pinned": config.pinned, "problem": problem}


@app.post("/configuration/rollback")
async def rollback() -> int:
    """Go back to the version before this one."""
    before = micro.config.versions[1].id
    micro.config.rollback(before)
    return before


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=micro.settings.port or 0, log_level="warning")
