"""orders, the second hop: it calls inventory. There is no copy of it in lane dev."""

from fastapi import FastAPI

from lane_router import LaneMiddleware
from microservice_kit import Microservice

micro = Microservice(service_name="orders", lanes="permissive")
app = FastAPI(lifespan=micro.lifespan)
app.add_middleware(LaneMiddleware)


@app.get("/")
async def path() -> list[str]:
    response = await micro.client.get("inventory", "/")
    return ["orders", *response.json()]
