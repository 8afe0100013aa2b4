import asyncio
from typing import Any

import pytest

from microservice_core import InvalidValueError
from microservice_governance import CircuitOpenError, Fallback, FallbackUsed, PolicyEvent

DOWN = ConnectionError("down")


def fails(error: BaseException = DOWN) -> str:
    raise error


async def fails_later(error: BaseException = DOWN) -> str:
    raise error


async def cached(error: Exception) -> str:
    return f"cached, as {error}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("plain", "plain"), (None, None), (lambda error: f"after {error}", "after down")],
)
async def test_it_answers_in_place_of_the_error(answer: object, expected: object) -> None:
    policy = Fallback(answer, on=ConnectionError)
    assert policy.run(fails) == expected
    assert policy(fails)() == expected
    assert await policy.arun(fails_later) == expected
    assert await policy(fails_later)() == expected


async def test_an_async_answer_is_awaited_and_refused_for_plain_functions() -> None:
    policy = Fallback(cached, on=(ConnectionError,))
    assert await policy.arun(fails_later) == "cached, as down"
    with pytest.raises(TypeError, match="give it a plain one"):
        policy(fails)
    with pytest.raises(TypeError, match="arun"):
        policy.run(fails)


async def test_a_success_is_left_alone() -> None:
    policy = Fallback("other", on=Exception)
    assert policy.run(str, 7) == "7"
    assert await policy.arun(asyncio.sleep, 0, "own") == "own"
    with pytest.raises(TypeError, match="arun"):
        policy.run(asyncio.sleep, 0)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize(
    "error", [ValueError("bug"), asyncio.CancelledError(), KeyboardInterrupt()]
)
async def test_other_errors_and_cancellation_come_out(error: BaseException) -> None:
    policy = Fallback("other", on=ConnectionError)
    with pytest.raises(type(error)):
        policy.run(fails, error)
    with pytest.raises(type(error)):
        await policy.arun(fails_later, error)


def test_a_refusal_can_be_answered_for() -> None:
    refusal = CircuitOpenError("orders", "open", 1.0)
    assert Fallback("none", on=CircuitOpenError).run(fails, refusal) == "none"


def test_an_answer_that_fails_comes_out() -> None:
    def broken(error: Exception) -> str:
        raise LookupError("no cache")

    with pytest.raises(LookupError, match="no cache"):
        Fallback(broken, on=ConnectionError).run(fails)


def test_it_tells_of_the_error_it_answers_for() -> None:
    events: list[PolicyEvent] = []
    policy = Fallback(None, on=ConnectionError, name="orders")
    policy.subscribe(events.append)
    policy.run(fails)
    assert events == [FallbackUsed("fallback", "orders", DOWN)]
    assert repr(policy) == "Fallback('orders', on ConnectionError)"


@pytest.mark.parametrize("on", [(), (asyncio.CancelledError,), BaseException, ("OSError",)])
def test_what_it_answers_for_is_checked(on: Any) -> None:
    with pytest.raises(InvalidValueError, match="on must be one or more subclasses of Exception"):
        Fallback(None, on=on)


async def test_each_caller_has_a_substitute_of_its_own() -> None:
    nested = {"items": [1], "tags": {"a"}, "raw": bytearray(b"x"), "pair": ([], 1)}
    policy = Fallback(nested, on=OSError)

    def down() -> Any:
        raise OSError

    async def down_later() -> Any:
        raise OSError

    for _ in range(2):
        for result in (policy.run(down), await policy.arun(down_later)):
            assert result == {"items": [1], "tags": {"a"}, "raw": bytearray(b"x"), "pair": ([], 1)}
            result["items"].append(2)
            result["tags"].add("b")
            result["raw"].extend(b"y")
            result["pair"][0].append(3)
            result["more"] = 1
    marker = object()
    assert Fallback(marker, on=OSError).run(down) is marker
