"""The application as it is: an address and a percentage in the environment, plain httpx."""

import os

import httpx
from fastapi import FastAPI

INVENTORY_URL = os.environ["INVENTORY_URL"]
DISCOUNT = int(os.environ.get("SHOP_DISCOUNT", "0"))

app = FastAPI()


@app.get("/price/{article}")
async def price(article: str) -> dict[str, str | int]:
    async with httpx.AsyncClient(base_url=INVENTORY_URL, timeout=2.0) as inventory:
        cents = (await inventory.get(f"/cents/{article}")).raise_for_status().json()
    return {"article": article, "cents": cents * (100 - DISCOUNT) // 100}
