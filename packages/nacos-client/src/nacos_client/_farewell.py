"""Deregister at the end of the program what its owner never closed."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

from ._after_fork import call_after_fork
from ._background import BackgroundLoop
from .errors import ClientClosedError

__all__ = ("InlineExecutor", "cancel_farewell", "say_at_exit", "say_farewells")

P = ParamSpec("P")
T = TypeVar("T")

Farewell = Callable[[float], Coroutine[object, object, None]]

_FAREWELL_SECONDS = 1.0
# What a farewell may take; the rest is for handing it over to its thread and back.
_OWN_SHARE = 0.9

_farewells: dict[BackgroundLoop, Farewell] = {}


def say_at_exit(background: BackgroundLoop, farewell: Farewell) -> None:
    """Run `farewell(seconds)` on the background loop when the program ends.

    Not after a fork, in the child: what was registered is the parent's. A program that a signal
    kills says nothing.
    """
    if not _farewells:
        atexit.unregister(say_farewells)
        atexit.register(say_farewells)
    _farewells[background] = farewell


def cancel_farewell(background: BackgroundLoop) -> None:
    """Say nothing on this loop at the end: its owner was closed."""
    _farewells.pop(background, None)


def say_farewells(seconds: float = _FAREWELL_SECONDS) -> None:
    """Say all farewells at once, within so many seconds in all; nothing is raised."""
    farewells = dict(_farewells)
    _farewells.clear()
    under_way: list[Future[None]] = []
    for background, farewell in farewells.items():
        with contextlib.suppress(ClientClosedError):
            under_way.append(background.submit(_say(farewell, seconds * _OWN_SHARE)))
    # The threads are daemons, alive until the interpreter is gone.
    wait(under_way, timeout=seconds)


async def _say(farewell: Farewell, seconds: float) -> None:
    # At this moment the interpreter starts no thread any more, which a host name's address takes.
    asyncio.get_running_loop().set_default_executor(InlineExecutor())
    await farewell(seconds)


def _forget_all() -> None:
    _farewells.clear()


class InlineExecutor(ThreadPoolExecutor):
    """Calls each function at once, in the thread that submits it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future that is done already."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the future
            future.set_exception(error)
        return future


call_after_fork(_forget_all)
