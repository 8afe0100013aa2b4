"""The current module: the one that was opened in this context, else the only one that is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pydantic import BaseModel

from microservice_kit.errors import NotEnabledError
from microservice_kit.open_module import OpenModule

__all__ = (
    "current_module",
    "enter_module",
    "exit_module",
    "module_variable",
    "notify_module_listeners",
    "open_modules",
    "subscribe_to_modules",
    "use_module",
)

module_variable: ContextVar[OpenModule[BaseModel] | None] = ContextVar(
    "microservice_module", default=None
)
"""The module of this context; read it by `current_module`."""
_open: list[OpenModule[BaseModel]] = []
_listeners: list[Callable[[], None]] = []


def enter_module(module: OpenModule[BaseModel]) -> None:
    """Add an open module, and make it the current one of this context."""
    _open.append(module)
    module_variable.set(module)
    notify_module_listeners()


def exit_module(module: OpenModule[BaseModel]) -> None:
    """Remove a module; removing it twice is fine."""
    if module in _open:
        _open.remove(module)
        if module_variable.get() is module:
            module_variable.set(None)
        notify_module_listeners()


def open_modules() -> tuple[OpenModule[BaseModel], ...]:
    """Return every open module of this process, the newest last."""
    return tuple(_open)


def current_module() -> OpenModule[BaseModel]:
    """Return the module of this context, else the only one that is open.

    While a request is served it is the module of the application that serves it; elsewhere the one
    that was opened in this context, or that `use_module` names.

    Raises:
        NotEnabledError: no module is open, or several are and none of them in this context.
    """
    module = module_variable.get()
    if module is not None and module in _open:
        return module
    if len(_open) == 1:
        return _open[0]
    if _open:
        raise NotEnabledError(
            "a current module",
            "several are open in this process, and none of them was opened in this context: use "
            "the one that opening returned, or say which by `with use_module(module):`. A request "
            "has that of the application that serves it",
        )
    raise NotEnabledError(
        "a module",
        "open a MicroserviceModule first; an application does it with "
        "FastAPI(lifespan=micro.lifespan). The lifespan of a mounted application does not run by "
        "itself: enter it in that of the outer one",
    )


@contextmanager
def use_module(module: OpenModule[BaseModel]) -> Iterator[None]:
    """Make an open module the current one for a block: in a background task, a script, a test.

    Needed only where several modules are open in one process, outside of a request.

    Raises:
        NotEnabledError: the module is not open, or not any more.
    """
    if not any(other is module for other in _open):
        raise NotEnabledError("this module", "it is closed: use one that is open")
    token = module_variable.set(module)
    try:
        yield
    finally:
        module_variable.reset(token)


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
