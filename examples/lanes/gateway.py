"""gateway, the first hop: it calls orders, and its code does not mention lanes."""

from fastapi import FastAPI

from lane_router import LaneMiddleware
from microservice_kit import Microservice

micro = Microservice(service_name="gateway", lanes="permissive")
app = FastAPI(lifespan=micro.lifespan)
app.add_middleware(LaneMiddleware)


@app.get("/")
async def path() -> list[str]:
    response = await micro.client.get("orders", "/")
    return ["gateway", *response.json()]
