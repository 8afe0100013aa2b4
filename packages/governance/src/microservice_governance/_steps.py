"""Redis operations without I/O: generators that yield commands and receive the responses.

Each operation is written once; a sync and an async class send its commands by their own client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeAlias, TypeVar, cast

__all__ = ("Command", "Operation", "run", "run_async")

T = TypeVar("T")

Command: TypeAlias = tuple[str | bytes | int, ...]
Operation: TypeAlias = Generator[Command, Any, T]
"""Yields the commands of an operation, receives each response, returns the result. An error of a
command is raised at its `yield`, so the operation decides what it means."""


def run(operation: Operation[T], send: Callable[[Command], object]) -> T:
    """Run an operation to its end; `send` executes one command."""
    try:
        command = next(operation)
        while True:
            try:
                response = send(command)
            except BaseException as error:  # noqa: BLE001 - the operation handles or re-raises it
                command = operation.throw(error)
            else:
                command = operation.send(response)
    except StopIteration as end:
        return cast("T", end.value)


async def run_async(operation: Operation[T], send: Callable[[Command], Awaitable[object]]) -> T:
    """Run an operation to its end; `send` executes one command."""
    try:
        command = next(operation)
        while True:
            try:
                response = await send(command)
            except BaseException as error:  # noqa: BLE001 - the operation handles or re-raises it
                command = operation.throw(error)
            else:
                command = operation.send(response)
    except StopIteration as end:
        return cast("T", end.value)
