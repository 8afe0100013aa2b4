"""SIGTERM reaches the server only after the service has left the registry."""

import asyncio
import signal

import pytest

from microservice_kit.graceful_stop import GracefulStop


async def test_sigterm_is_held_back_until_the_service_has_left() -> None:
    received: list[int] = []
    may_leave, forwarded = asyncio.Event(), asyncio.Event()

    def server(signum: int, _frame: object) -> None:
        received.append(signum)
        forwarded.set()

    async def leave() -> None:
        await may_leave.wait()

    before = signal.signal(signal.SIGTERM, server)
    try:
        stop = GracefulStop(leave).install()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert received == []
        may_leave.set()
        await forwarded.wait()
        assert signal.getsignal(signal.SIGTERM) is server
        stop.uninstall()

        hanging = GracefulStop(asyncio.Event().wait).install()  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert received == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2
        hanging.uninstall()
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_service_that_cannot_leave_stops_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forwarded = asyncio.Event()

    async def fail() -> None:
        raise ConnectionError

    before = signal.signal(signal.SIGTERM, lambda *_: forwarded.set())
    try:
        GracefulStop(fail).install()
        signal.raise_signal(signal.SIGTERM)
        await forwarded.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "could not leave the registry" in caplog.text


async def test_a_signal_somebody_else_took_meanwhile_is_not_given_back() -> None:
    async def leave() -> None:
        pass

    before = signal.getsignal(signal.SIGTERM)
    try:
        stop = GracefulStop(leave).install()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.uninstall()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_outside_the_main_thread_and_under_asyncio_s_own_handlers_nothing_is_taken() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def leave() -> None:
        pass

    async def install() -> None:
        GracefulStop(leave).install()

    await asyncio.to_thread(asyncio.run, install())
    assert signal.getsignal(signal.SIGTERM) is before
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, print)
    taken = signal.getsignal(signal.SIGTERM)
    GracefulStop(leave).install().uninstall()
    assert signal.getsignal(signal.SIGTERM) is taken
    loop.remove_signal_handler(signal.SIGTERM)
