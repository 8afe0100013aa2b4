"""Step 1, two lines: it is registered, has /health, and leaves the registry before it stops."""

import os

import httpx
from fastapi import FastAPI

from microservice_kit import Microservice

INVENTORY_URL = os.environ["INVENTORY_URL"]
DISCOUNT = int(os.environ.get("SHOP_DISCOUNT", "0"))

micro = Microservice(service_name="shop")
app = FastAPI(lifespan=micro.lifespan)


@app.get("/price/{article}")
async def price(article: str) -> dict[str, str | int]:
    async with httpx.AsyncClient(base_url=INVENTORY_URL, timeout=2.0) as inventory:
        cents = (await inventory.get(f"/cents/{article}")).raise_for_status().json()
    return {"article": article, "cents": cents * (100 - DISCOUNT) // 100}
