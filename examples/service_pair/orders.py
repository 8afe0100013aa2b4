"""orders: takes an order when inventory, called by name, has enough and the limit allows it."""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from microservice_kit import Microservice


class Settings(BaseModel):
    most_pieces: int = 5


micro = Microservice(service_name="orders", config=Settings)
app = FastAPI(lifespan=micro.lifespan)


@app.post("/orders/{article}")
async def order(article: str, pieces: int = 1) -> dict[str, str | int]:
    limit = micro.config.current.most_pieces
    if pieces > limit:
        raise HTTPException(422, f"at most {limit} pieces")
    stock = (await micro.client.get("inventory", f"/stock/{article}")).json()
    if stock["pieces"] < pieces:
        raise HTTPException(409, f"only {stock['pieces']} of {article} left")
    return {"article": article, "pieces": pieces}
