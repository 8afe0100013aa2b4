"""Steady traffic to the gateway, and its results."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import httpx

__all__ = ("Tally", "Traffic")

LANE = "dev"
LANE_EVERY = 4


@dataclass(slots=True)
class Tally:
    """The responses of one instance."""

    calls: int = 0
    lane_calls: int = 0
    greeting: str = ""
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=400))

    def percentile(self, share: float) -> float:
        """Return the latency in milliseconds that this share of the calls does not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


class Traffic:
    """Calls the gateway at a steady rate; every fourth call is in lane `dev`.

    Attributes:
        lane_served_by: the lane whose instances have to respond to calls of lane `dev`: its own,
            base ("") when it has none, or None while that changes.
        fallbacks: calls of lane `dev` that base responded to when it had to.
    """

    def __init__(self, gateway: str, *, per_second: float = 50.0) -> None:
        self._http = httpx.AsyncClient(base_url=gateway, trust_env=False, timeout=10)
        self._pause = 1 / per_second
        self._calls: set[asyncio.Task[None]] = set()
        self.tallies: dict[int, Tally] = {}
        self.sent = 0
        self._ended = 0
        self.answered = 0
        self.strayed = 0
        self.fallbacks = 0
        self.lane_served_by: str | None = LANE
        self.problems: deque[str] = deque(maxlen=5)

    @property
    def failed(self) -> int:
        """Calls that ended without an order."""
        return self._ended - self.answered

    async def run(self) -> None:
        """Send at a steady rate until cancelled, however long the responses take."""
        due = time.monotonic()
        try:
            while True:
                task = asyncio.create_task(self._call(self.sent))
                self.sent += 1
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
                due += self._pause
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            await asyncio.gather(*self._calls, return_exceptions=True)
            await self._http.aclose()

    async def _call(self, number: int) -> None:
        in_lane = number % LANE_EVERY == 0
        home = self.lane_served_by if in_lane else ""
        started_at = time.monotonic()
        try:
            response = await self._http.get(
                f"/orders/{number}", headers={"x-lane": LANE} if in_lane else {}
            )
            response.raise_for_status()
            order = response.json()
            self.answered += 1
        except httpx.HTTPError as error:
            self.problems.append(f"{type(error).__name__}: {error}")
            return
        finally:
            self._ended += 1
        tally = self.tallies.setdefault(int(order["port"]), Tally())
        tally.calls += 1
        tally.lane_calls += in_lane
        tally.greeting = str(order["greeting"])
        tally.seconds.append(time.monotonic() - started_at)
        self._note_lane(in_lane, home, str(order["lane"]))

    def _note_lane(self, in_lane: bool, home: str | None, response_lane: str) -> None:
        if in_lane and home != self.lane_served_by:
            return  # it changed while the call was made
        if home is not None and response_lane != home:
            self.strayed += 1
        elif in_lane and home == "":
            self.fallbacks += 1
