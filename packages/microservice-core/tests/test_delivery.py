import asyncio
import logging

import pytest

from microservice_core import Delivery
from microservice_core.delivery import Watchers
from microservice_core.testing.clock import settle


async def test_a_state_reaches_a_plain_listener() -> None:
    seen: list[int] = []
    delivery: Delivery[int] = Delivery(seen.append)
    delivery.offer(1)
    assert seen == []
    await settle()
    assert seen == [1]


async def test_equal_states_are_told_once() -> None:
    seen: list[int] = []
    delivery: Delivery[int] = Delivery(seen.append)
    for state in (1, 1, 2, 2):
        delivery.offer(state)
        await settle()
    assert seen == [1, 2]


async def test_the_newest_state_wins_while_the_listener_is_busy() -> None:
    seen: list[int] = []
    gate = asyncio.Event()

    async def slow(state: int) -> None:
        await gate.wait()
        seen.append(state)

    delivery: Delivery[int] = Delivery(slow)
    for state in (1, 2, 3, 4):
        delivery.offer(state)
        await settle()
    gate.set()
    await settle()
    assert seen == [1, 4]


async def test_a_change_taken_back_while_the_listener_is_busy_is_not_told() -> None:
    seen: list[int] = []
    gate = asyncio.Event()

    async def slow(state: int) -> None:
        seen.append(state)
        await gate.wait()

    delivery: Delivery[int] = Delivery(slow)
    for state in (1, 2, 1):
        delivery.offer(state)
        await settle()
    gate.set()
    await settle()
    assert seen == [1]


async def test_a_listener_that_raises_is_logged_and_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[int] = []

    def raising(state: int) -> None:
        calls.append(state)
        raise RuntimeError("broken on purpose")

    delivery: Delivery[int] = Delivery(raising, name="orders")
    with caplog.at_level(logging.ERROR, logger="microservice_core.delivery"):
        for state in (1, 2):
            delivery.offer(state)
            await settle()
    assert calls == [1, 2]
    assert [record.message for record in caplog.records] == [
        "listener of orders failed; it stays subscribed"
    ] * 2


async def test_nothing_is_told_after_stop() -> None:
    seen: list[int] = []
    delivery: Delivery[int] = Delivery(seen.append)
    delivery.offer(1)
    delivery.stop()
    delivery.offer(2)
    await settle()
    assert seen == []
    assert delivery.stopped


async def test_closing_cancels_and_joins_a_listener_that_hangs() -> None:
    ended = False

    async def hanging(_: int) -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    delivery: Delivery[int] = Delivery(hanging)
    delivery.offer(1)
    await settle()
    await delivery.aclose()
    assert ended
    await delivery.aclose()


async def test_a_listener_may_close_its_own_delivery() -> None:
    seen: list[int] = []

    async def once(state: int) -> None:
        seen.append(state)
        await delivery.aclose()

    delivery: Delivery[int] = Delivery(once)
    delivery.offer(1)
    await settle()
    delivery.offer(2)
    await settle()
    assert seen == [1]


async def test_watchers_of_one_key_are_told_and_those_of_another_are_not() -> None:
    orders: list[int] = []
    stock: list[int] = []
    watchers: Watchers[str, int] = Watchers()
    watchers.add("orders", orders.append)
    watchers.add("stock", stock.append)
    watchers.offer("orders", 1)
    watchers.offer("unknown", 2)
    await settle()
    assert (orders, stock) == ([1], [])
    await watchers.aclose()


async def test_a_key_nobody_watches_any_more_is_forgotten() -> None:
    watchers: Watchers[str, int] = Watchers()
    stops = [watchers.add("orders", print)[1] for _ in range(2)]
    stops[0]()
    assert watchers.keys() == ["orders"]
    stops[1]()
    stops[1]()
    assert watchers.keys() == []


async def test_unsubscribing_from_within_a_listener_lets_the_siblings_go_on() -> None:
    told: list[str] = []
    watchers: Watchers[str, int] = Watchers()

    def first(_: int) -> None:
        told.append("first")
        stop()

    _, stop = watchers.add("orders", first)
    watchers.add("orders", lambda _: told.append("second"))
    for state in (1, 2):
        watchers.offer("orders", state)
        await settle()
    assert told == ["first", "second", "second"]
