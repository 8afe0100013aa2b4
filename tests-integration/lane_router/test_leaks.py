"""200 requests at once, of 20 lanes, 50,000 in all: nobody ever sees the lane of somebody else."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import httpx
import pytest

HERE = Path(__file__).parent
REQUESTS, AT_ONCE = 50_000, 200
LANES = [None, *(f"lane-{number}" for number in range(19))]

Start = Callable[..., subprocess.Popen[str]]
Answers = Callable[..., httpx.Response]


@pytest.mark.timeout(600)
async def test_no_lane_leaks_into_another_request(
    start: Start, answers: Answers, free_port: int
) -> None:
    url = f"http://127.0.0.1:{free_port}"
    answers(start(str(HERE / "leak_service.py"), str(free_port)), f"{url}/look")
    numbers = iter(range(REQUESTS))
    seen: Counter[tuple[str, str]] = Counter()
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def client() -> None:
            for number in numbers:
                lane = LANES[number % len(LANES)]
                headers = {"x-lane": lane} if lane else {}
                async with session.get(f"{url}/storm", headers=headers) as answer:
                    seen[str(lane), await answer.text()] += 1

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    assert seen.total() == REQUESTS
    leaks = {pair: count for pair, count in seen.items() if set(pair[1].split()) != {pair[0]}}
    assert leaks == {}
    assert {lane for lane, _ in seen} == {str(lane) for lane in LANES}
