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


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=micro.settings.port or 0, log_level="warning")
