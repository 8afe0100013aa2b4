"""The application as it could be: no address, no client of its own."""

from fastapi import FastAPI
from pydantic import BaseModel

from microservice_kit import Microservice


class Settings(BaseModel):
    discount: int = 0


micro = Microservice(service_name="shop", config=Settings, env_prefix="SHOP_")
app = FastAPI(lifespan=micro.lifespan)


@app.get("/price/{article}")
async def price(article: str) -> dict[str, str | int]:
    cents = (await micro.client.get("inventory", f"/cents/{article}")).raise_for_status().json()
    return {"article": article, "cents": cents * (100 - micro.config.current.discount) // 100}
