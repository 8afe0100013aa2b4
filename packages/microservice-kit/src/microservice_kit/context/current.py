"""The current module: the one that was opened in this context, else the only one that is open."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from pydantic import BaseModel

from microservice_kit.errors import NotEnabledError
from microservice_kit.open_module import OpenModule

__all__ = (
    "current_module",
    "enter_module",
    "exit_module",
    "notify_module_listeners",
    "open_modules",
    "subscribe_to_modules",
)

_current: ContextVar[OpenModule[BaseModel] | None] = ContextVar("microservice_module", default=None)
_open: list[OpenModule[BaseModel]] = []
_listeners: list[Callable[[], None]] = []


def enter_module(module: OpenModule[BaseModel]) -> None:
    """Add an open module, and make it the current one of this context."""
    _open.append(module)
    _current.set(module)
    notify_module_listeners()


def exit_module(module: OpenModule[BaseModel]) -> None:
    """Remove a module; removing it twice is fine."""
    if module in _open:
        _open.remove(module)
        if _current.get() is module:
            _current.set(None)
        notify_module_listeners()


def open_modules() -> tuple[OpenModule[BaseModel], ...]:
    """Return every open module of this process, the newest last."""
    return tuple(_open)


def current_module() -> OpenModule[BaseModel]:
    """Return the module that was opened in this context, else the only one that is open.

    Raises:
        NotEnabledError: no module is open, or several are and none of them in this context.
    """
    module = _current.get()
    if module is not None and module in _open:
        return module
    if len(_open) == 1:
        return _open[0]
    if _open:
        raise NotEnabledError(
            "a current module", "several are open: use the one that opening returned"
        )
    raise NotEnabledError("a module", "open a MicroserviceModule first")


def subscribe_to_modules(listener: Callable[[], None]) -> None:
    """Call `listener` whenever a module opens or closes, or its configuration changes.

    Subscribing it again changes nothing.
    """
    if listener not in _listeners:
        _listeners.append(listener)


def notify_module_listeners() -> None:
    """Call every listener of `subscribe_to_modules`."""
    for listener in tuple(_listeners):
        listener()
