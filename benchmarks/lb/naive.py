"""What one would write in five minutes: the measure of what a balancer may cost."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable
from hashlib import md5
from typing import Any

Pick = Callable[[], Any]


def round_robin(hosts: list[Any]) -> Pick:
    turn = -1

    def pick() -> Any:
        nonlocal turn
        turn += 1
        return hosts[turn % len(hosts)]

    return pick


def smooth_wrr(hosts: list[Any]) -> Pick:
    credit = [0.0] * len(hosts)
    total = sum(host.weight for host in hosts)

    def pick() -> Any:
        best = 0
        for index, host in enumerate(hosts):
            credit[index] += host.weight
            if credit[index] > credit[best]:
                best = index
        credit[best] -= total
        return hosts[best]

    return pick


def weighted_random(hosts: list[Any]) -> Pick:
    weights = [host.weight for host in hosts]
    return lambda: random.choices(hosts, weights)[0]


def two_choices(hosts: list[Any]) -> Pick:
    active = dict.fromkeys(hosts, 0)

    def pick() -> Any:
        first, second = random.sample(hosts, 2)
        return second if active[second] < active[first] else first

    return pick


def least_active(hosts: list[Any]) -> Pick:
    active = dict.fromkeys(hosts, 0)
    return lambda: min(hosts, key=active.__getitem__)


def ring(hosts: list[Any], key: str = "user:12345") -> Pick:
    def place(text: str) -> int:
        return int(md5(text.encode(), usedforsecurity=False).hexdigest()[:8], 16)

    owners = {place(f"{host.instance_id}-{n}"): host for host in hosts for n in range(160)}
    positions = sorted(owners)

    return lambda: owners[positions[bisect(positions, place(key)) % len(positions)]]
