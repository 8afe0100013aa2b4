"""inventory, the last hop: MICROSERVICE_LANE sets the lane of a copy."""

from fastapi import FastAPI

from microservice_kit import Microservice

micro = Microservice(service_name="inventory")
app = FastAPI(lifespan=micro.lifespan)


@app.get("/")
async def path() -> list[str]:
    return [f"inventory in {micro.settings.lane or 'base'}"]
