"""The gateway: calls `orders` by name; the lane of its caller goes along by itself."""

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
            balancer="round_robin",  # everyone the same share, which is easy to see
            breaker_failures=3,
            breaker_open_seconds=2.0,
        )
    },
)
app = FastAPI(lifespan=micro.lifespan)
app.add_middleware(LaneMiddleware)


@app.get("/orders/{order_id}")
async def order(order_id: int) -> dict[str, str | int]:
    try:
        response = await micro.client.get("orders", f"/v1/orders/{order_id}")
    except ServiceCallError as error:
        raise HTTPException(status_code=503, detail=str(error)) from error
    answer: dict[str, str | int] = response.json()
    return answer


@app.get("/known/{count}")
async def known(count: int) -> int:
    """How many instances of orders are known; 503 until there are that many."""
    found = len(await micro.client.instances("orders"))
    if found < count:
        raise HTTPException(status_code=503, detail=f"{found} known")
    return found


@app.get("/breakers")
async def breakers() -> dict[str, str]:
    return micro.client.breaker_states("orders")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=micro.settings.port or 0, log_level="warning")
