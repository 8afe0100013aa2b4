import asyncio
import logging

import pytest

from microservice_core import Delivery, Watchers
from microservice_core.testing import settle


async def test_a_state_reaches_a_plain_listener() -> None:
    seen: list[int] = []
    delivery: Delivery[int] = Delivery(seen.append)
    delivery.notify(1)
    assert seen == []
    await settle()
    assert seen == [1]


async def test_equal_states_are_told_once() -> None:
    seen: list[int] = []
    delivery: Delivery[int] = Delivery(seen.append)
    for state in (1, 1, 2, 2):
        delivery.notify(state)
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
        delivery.notify(state)
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
        delivery.notify(state)
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
            delivery.notify(state)
            await settle()
    assert calls == [1, 2]
    assert [record.message for record in caplog.records] == [
        "listener of orders failed; it remains subscribed"
    ] * 2


async def test_a_closed_delivery_calls_its_listener_no_more() -> None:
    seen: list[int] = []
    delivery: Delivery[int] = Delivery(seen.append)
    delivery.notify(1)
    delivery.close()
    delivery.notify(2)
    await settle()
    assert seen == []
    assert delivery.closed


async def test_closing_cancels_and_joins_a_listener_that_hangs() -> None:
    ended = False

    async def hanging(_: int) -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    delivery: Delivery[int] = Delivery(hanging)
    delivery.notify(1)
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
    delivery.notify(1)
    await settle()
    delivery.notify(2)
    await settle()
    assert seen == [1]


async def test_watchers_of_one_key_are_told_and_those_of_another_are_not() -> None:
    orders: list[int] = []
    stock: list[int] = []
    watchers: Watchers[str, int] = Watchers()
    watchers.add("orders", orders.append)
    watchers.add("stock", stock.append)
    watchers.notify("orders", 1)
    watchers.notify("unknown", 2)
    await settle()
    assert (orders, stock) == ([1], [])
    await watchers.aclose()


async def test_a_key_nobody_watches_any_more_is_forgotten() -> None:
    watchers: Watchers[str, int] = Watchers()
    unsubscribes = [watchers.add("orders", print)[1] for _ in range(2)]
    unsubscribes[0]()
    assert watchers.keys() == ["orders"]
    unsubscribes[1]()
    unsubscribes[1]()
    assert watchers.keys() == []


async def test_unsubscribing_from_within_a_listener_lets_the_siblings_go_on() -> None:
    told: list[str] = []
    watchers: Watchers[str, int] = Watchers()

    def first(_: int) -> None:
        told.append("first")
        unsubscribe()

    _, unsubscribe = watchers.add("orders", first)
    watchers.add("orders", lambda _: told.append("second"))
    for state in (1, 2):
        watchers.notify("orders", state)
        await settle()
    assert told == ["first", "second", "second"]
