"""A deterministic queue simulation: many clients, each with a balancer of its own, on one fleet.

Servers work one call after the other; arrivals and service times are exponential. Time is counted
in mean service times of a normal server, so that the results have no unit.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

from microservice_lb import Balancer, Lease


@dataclass(frozen=True)
class Server:
    instance_id: str
    slowness: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class Result:
    """Time from arrival to answer, over all calls after the first tenth."""

    p50: float
    p99: float
    share_of_slow: float


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


Make = Callable[[random.Random, Clock], Balancer[Server]]


def simulate(
    make: Make,
    *,
    servers: int = 20,
    slowness: float = 4.0,
    clients: int = 50,
    load: float = 0.7,
    calls: int = 40_000,
    seed: int = 1,
) -> Result:
    """Run `calls` calls at `load` of what the fleet can do, one server being slower."""
    rng, clock = random.Random(seed), Clock()
    fleet = [Server(f"s{n}", slowness if n == 0 else 1.0) for n in range(servers)]
    balancers = [make(random.Random(seed * 1000 + n), clock) for n in range(clients)]
    for balancer in balancers:
        balancer.update(fleet)
    rate = load * sum(1 / server.slowness for server in fleet)
    free_at = {server.instance_id: 0.0 for server in fleet}
    out: list[tuple[float, int, Lease[Server]]] = []
    times, slow = [], 0
    arrival = 0.0
    for number in range(calls):
        arrival += rng.expovariate(rate)
        while out and out[0][0] <= arrival:
            clock.now, _, lease = heapq.heappop(out)
            lease.release()
        clock.now = arrival
        lease = rng.choice(balancers).acquire(f"user:{rng.randrange(10_000)}")
        server = lease.endpoint
        begin = max(arrival, free_at[server.instance_id])
        end = begin + rng.expovariate(1 / server.slowness)
        free_at[server.instance_id] = end
        heapq.heappush(out, (end, number, lease))
        if number >= calls // 10:
            times.append(end - arrival)
            slow += server.slowness > 1
    times.sort()
    return Result(times[len(times) // 2], times[len(times) * 99 // 100], slow / len(times))
