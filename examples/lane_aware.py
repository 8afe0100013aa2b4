"""A FastAPI service that is lane-aware by two lines; its handlers do not mention lanes."""

import os

import httpx
from fastapi import FastAPI

from lane_router import LaneMiddleware, LaneRouter, instrument

app = FastAPI()
app.add_middleware(LaneMiddleware)
instrument(LaneRouter(os.environ.get("LANE_ROUTER_URL", "http://lite-registry:8080")))


@app.get("/checkout")
async def checkout() -> dict[str, str]:
    async with httpx.AsyncClient() as client:
        response = await client.get("http://orders/")
    return {"orders": response.text}
