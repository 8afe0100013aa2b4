"""Steady traffic to the gateway, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import httpx

__all__ = ("Tally", "Traffic")

LANE_EVERY = 4


@dataclass(slots=True)
class Tally:
    """What one instance answered."""

    calls: int = 0
    lane_calls: int = 0
    greeting: str = ""
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=400))

    def percentile(self, share: float) -> float:
        """Latency in milliseconds below which that share of the calls stays."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


class Traffic:
    """Calls the gateway at a steady rate; every fourth call is in lane `dev`."""

    def __init__(self, gateway: str, *, per_second: float = 50.0) -> None:
        self._http = httpx.AsyncClient(base_url=gateway, trust_env=False, timeout=10)
        self._pause = 1 / per_second
        self._under_way: set[asyncio.Task[None]] = set()
        self.tallies: dict[int, Tally] = {}
        self.sent = 0
        self.answered = 0
        self.strayed = 0
        self.problems: deque[str] = deque(maxlen=5)

    @property
    def failed(self) -> int:
        """Calls that ended without an order."""
        return self.sent - self.answered - len(self._under_way)

    async def run(self) -> None:
        """Send until cancelled, whatever the answers take."""
        due = time.monotonic()
        try:
            while True:
                task = asyncio.create_task(self._call(self.sent))
                self.sent += 1
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                due += self._pause
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            await asyncio.gather(*self._under_way, return_exceptions=True)
            await self._http.aclose()

    async def _call(self, number: int) -> None:
        in_lane = number % LANE_EVERY == 0
        began = time.monotonic()
        try:
            response = await self._http.get(
                f"/orders/{number}", headers={"x-lane": "dev"} if in_lane else {}
            )
            response.raise_for_status()
        except httpx.HTTPError as error:
            self.problems.append(f"{type(error).__name__}: {error}")
            return
        answer = response.json()
        tally = self.tallies.setdefault(int(answer["port"]), Tally())
        tally.calls += 1
        tally.lane_calls += in_lane
        tally.greeting = str(answer["greeting"])
        tally.seconds.append(time.monotonic() - began)
        self.answered += 1
        self.strayed += in_lane != (answer["lane"] == "dev")
