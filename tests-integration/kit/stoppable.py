"""A service whose answers take a moment; uvicorn finds the port, the registry learns it."""

import asyncio
import os
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from microservice_kit import Microservice

micro = Microservice(
    service_name="stoppable",
    service_registry="lite",
    service_registry_settings={"url": os.environ["LITE_REGISTRY_URL"]},
    leave_seconds=float(os.environ.get("LEAVE_SECONDS", "1.0")),
)
app = FastAPI(lifespan=micro.lifespan)


@app.get("/slow")
async def slow() -> int:
    await asyncio.sleep(0.02)
    return os.getpid()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(str(os.getpid()))
    uvicorn.run(app, port=0, log_level="warning")
