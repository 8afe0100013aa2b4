"""What limits and breakers on Redis must not share with a forked child."""

import fakeredis

from microservice_core import run_after_fork
from microservice_governance import (
    BreakerConfig,
    CircuitBreaker,
    LimitConfig,
    RedisBreakerSharing,
    RedisRateLimiter,
)


def test_each_child_counts_towards_the_quorum_under_an_id_of_its_own() -> None:
    client = fakeredis.FakeRedis()
    breaker = CircuitBreaker("orders", BreakerConfig(consecutive_failures=1))
    sharing = RedisBreakerSharing(client, [breaker], group="g", quorum=3)
    sharing.attach()
    breaker.note(OSError())
    sharing.exchange()
    assert client.zcard("cb:{g}:orders:by") == 1
    breaker.close()
    breaker.note(OSError())
    run_after_fork()  # the parent's opening is not reported once more
    sharing.exchange()
    assert client.zcard("cb:{g}:orders:by") == 1
    breaker.close()
    breaker.note(OSError())
    sharing.exchange()
    assert client.zcard("cb:{g}:orders:by") == 2


def test_leased_units_stay_with_the_parent() -> None:
    limiter = RedisRateLimiter(
        fakeredis.FakeRedis(), LimitConfig(rate=10, per_seconds=1000), name="t", lease=5
    )
    assert limiter.try_acquire("hot").remaining == 9
    assert limiter.try_acquire("hot").remaining == 8  # five taken, four held
    run_after_fork()
    passed = sum(limiter.try_acquire("hot").allowed for _ in range(10))
    assert passed == 4
