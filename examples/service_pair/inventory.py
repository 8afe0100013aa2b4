"""inventory: how many pieces of an article are in stock."""

from fastapi import FastAPI

from microservice_kit import Microservice

STOCK = {"apple": 12, "pear": 3}

micro = Microservice(service_name="inventory")
app = FastAPI(lifespan=micro.lifespan)


@app.get("/stock/{article}")
async def stock(article: str) -> dict[str, str | int]:
    return {"article": article, "pieces": STOCK.get(article, 0)}
