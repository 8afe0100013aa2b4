"""The README's service with a second page that tells what is wrong with its configuration."""

from fastapi import FastAPI
from pydantic import BaseModel

from microservice_kit import Microservice


class Settings(BaseModel):
    greeting: str = "hello"


micro = Microservice(config=Settings)
app = FastAPI(lifespan=micro.lifespan)


@app.get("/hello/{name}")
async def hello(name: str) -> str:
    return f"{micro.config.current.greeting}, {name}"


@app.get("/problem")
async def problem() -> str:
    return str(micro.config.problem or "")
