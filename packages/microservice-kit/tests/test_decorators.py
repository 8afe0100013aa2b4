import pytest

from microservice_governance import BreakerConfig, CircuitOpenError
from microservice_kit import circuit_breaker

TWICE = BreakerConfig(failure_rate_threshold=None, consecutive_failures=2)


async def test_functions_that_share_a_name_share_a_breaker() -> None:
    @circuit_breaker("payments", TWICE)
    def charge() -> None:
        raise ZeroDivisionError

    @circuit_breaker("payments")
    async def refund() -> str:
        return "refunded"

    assert await refund() == "refunded"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            charge()
    with pytest.raises(CircuitOpenError, match="'payments' is open"):
        await refund()


def test_another_name_is_another_breaker() -> None:
    assert circuit_breaker("a") is circuit_breaker("a")
    assert circuit_breaker("a") is not circuit_breaker("b")
