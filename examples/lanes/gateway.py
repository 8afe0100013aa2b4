"""gateway, the first hop: it asks orders, and not a word about lanes."""

from fastapi import FastAPI

from lane_router import LaneMiddleware
from microservice_kit import Microservice

micro = Microservice(service_name="gateway", lanes="permissive")
app = FastAPI(lifespan=micro.lifespan)
app.add_middleware(LaneMiddleware)


@app.get("/")
async def path() -> list[str]:
    rest = await micro.client.get("orders", "/")
    return ["gateway", *rest.json()]
