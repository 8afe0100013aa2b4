"""A service that its environment describes; SIGUSR1 sets its wall clock a day on, SIGUSR2 two back."""

import signal
import time

DAY_SECONDS = 86_400.0


class JumpingClock:
    def __init__(self) -> None:
        self.ahead_seconds = 0.0
        self._real, self._real_ns = time.time, time.time_ns

    def time(self) -> float:
        return self._real() + self.ahead_seconds

    def time_ns(self) -> int:
        return self._real_ns() + int(self.ahead_seconds * 1e9)

    def jump(self, seconds: float) -> None:
        self.ahead_seconds += seconds


# Before anything else is imported: many keep `time.time` as a default argument.
clock = JumpingClock()
time.time, time.time_ns = clock.time, clock.time_ns

import uvicorn  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from microservice_kit import Microservice  # noqa: E402


class Settings(BaseModel):
    greeting: str = "hello"


micro = Microservice(config=Settings)
app = FastAPI(lifespan=micro.lifespan)


@app.get("/greeting")
async def greeting() -> dict[str, str | float]:
    return {"greeting": micro.config.current.greeting, "time": time.time()}


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: clock.jump(DAY_SECONDS))
    signal.signal(signal.SIGUSR2, lambda *_: clock.jump(-2 * DAY_SECONDS))
    uvicorn.run(app, port=0, log_level="warning")
