"""One of several processes that take all they get of one limit, for so many seconds."""

import json
import sys
import time

from microservice_governance import LimitConfig, RedisRateLimiter


def main(url: str, name: str, rate: str, burst: str, seconds: str) -> None:
    limit = LimitConfig(rate=int(rate), burst=int(burst))
    with RedisRateLimiter.from_url(url, limit, name=name, timeout_seconds=10) as limiter:
        limiter.try_acquire("warm")
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        ended, admitted = began, 0
        while ended - began < float(seconds):
            limiter.acquire("hot")
            ended, admitted = time.monotonic(), admitted + 1
    print(json.dumps({"began": began, "ended": ended, "admitted": admitted}))


if __name__ == "__main__":
    main(*sys.argv[1:])
