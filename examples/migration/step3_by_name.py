"""Step 3, one argument: the same httpx code, but the host is a name, balanced, retried, guarded."""

import httpx
from fastapi import FastAPI
from pydantic import BaseModel

from microservice_client import AsyncServiceTransport
from microservice_kit import Microservice


class Settings(BaseModel):
    discount: int = 0


micro = Microservice(service_name="shop", config=Settings, env_prefix="SHOP_")
app = FastAPI(lifespan=micro.lifespan)


@app.get("/price/{article}")
async def price(article: str) -> dict[str, str | int]:
    transport = AsyncServiceTransport(micro.client)
    async with httpx.AsyncClient(base_url="http://inventory", transport=transport) as inventory:
        cents = (await inventory.get(f"/cents/{article}")).raise_for_status().json()
    return {"article": article, "cents": cents * (100 - micro.config.current.discount) // 100}
