from fastapi import FastAPI
from pydantic import BaseModel

from microservice_kit import Microservice


class Settings(BaseModel):
    greeting: str = "hello"


micro = Microservice(service_name="greeter", config=Settings)
app = FastAPI(lifespan=micro.lifespan)


@app.get("/hello/{name}")
async def hello(name: str) -> str:
    return f"{micro.config.current.greeting}, {name}"
