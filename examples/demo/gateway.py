"""The gateway: calls `orders` by name; the caller's lane is propagated without code here."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI, HTTPException

from lane_router import LaneMiddleware
from microservice_client import ServiceCallError, ServicePolicy
from microservice_kit import Microservice

micro = Microservice(
    service_name="gateway",
    lanes="permissive",
    policies={
        "orders": ServicePolicy(
            balancer="round_robin",  # equal shares are easy to see
            breaker_failures=3,
            breaker_open_seconds=2.0,
        )
    },
)
app = FastAPI(lifespan=micro.lifespan)
app.add_middleware(LaneMiddleware)


@app.get("/orders/{order_id}")
async def get_order(order_id: int) -> dict[str, str | int]:
    try:
        response = await micro.client.get("orders", f"/v1/orders/{order_id}")
    except ServiceCallError as error:
        raise HTTPException(status_code=503, detail=str(error)) from error
    order: dict[str, str | int] = response.json()
    return order


@app.get("/known/{count}")
async def count_instances(count: int) -> int:
    """Return how many instances of orders the client knows; 503 while they are fewer than `count`."""
    instances = await micro.client.instances("orders")
    if len(instances) < count:
        raise HTTPException(status_code=503, detail=f"{len(instances)} known")
    return len(instances)


@app.get("/breakers")
async def get_breakers() -> dict[str, str]:
    return micro.client.breaker_states("orders")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=micro.settings.port or 0, log_level="warning")
