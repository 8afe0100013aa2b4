"""Step 2: the percentage is a setting, still SHOP_DISCOUNT, and shop.yaml changes it while it runs."""

import os

import httpx
from fastapi import FastAPI
from pydantic import BaseModel

from microservice_kit import Microservice

INVENTORY_URL = os.environ["INVENTORY_URL"]


class Settings(BaseModel):
    discount: int = 0


micro = Microservice(service_name="shop", config=Settings, env_prefix="SHOP_")
app = FastAPI(lifespan=micro.lifespan)


@app.get("/price/{article}")
async def price(article: str) -> dict[str, str | int]:
    async with httpx.AsyncClient(base_url=INVENTORY_URL, timeout=2.0) as inventory:
        cents = (await inventory.get(f"/cents/{article}")).raise_for_status().json()
    return {"article": article, "cents": cents * (100 - micro.config.current.discount) // 100}
