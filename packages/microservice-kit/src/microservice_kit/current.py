"""Which module is meant where none is handed over: that of this context, else the only one open."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .errors import NotEnabledError

if TYPE_CHECKING:
    from .services import AnyServices

__all__ = (
    "current_services",
    "enter_module",
    "follow_modules",
    "leave_module",
    "open_services",
    "tell_modules",
)

_here: ContextVar[AnyServices | None] = ContextVar("microservice_services", default=None)
_open: list[AnyServices] = []
_followers: list[Callable[[], None]] = []


def enter_module(services: AnyServices) -> None:
    """From now on these services are open, and those of this context."""
    _open.append(services)
    _here.set(services)
    tell_modules()


def leave_module(services: AnyServices) -> None:
    """They are not any more; once is enough."""
    if services in _open:
        _open.remove(services)
        if _here.get() is services:
            _here.set(None)
        tell_modules()


def open_services() -> tuple[AnyServices, ...]:
    """The services of every open module, the newest last."""
    return tuple(_open)


def current_services() -> AnyServices:
    """The services of the module that was opened in this context, else of the only open one.

    Raises:
        NotEnabledError: none is open, or several are and none in this context.
    """
    here = _here.get()
    if here is not None and here in _open:
        return here
    if len(_open) == 1:
        return _open[0]
    if _open:
        raise NotEnabledError("a module", "several are open: use the one you were handed")
    raise NotEnabledError("a module", "open a MicroserviceModule first")


def follow_modules(follower: Callable[[], None]) -> None:
    """Tell `follower` whenever a module opens or closes."""
    _followers.append(follower)


def tell_modules() -> None:
    """Something that may be read from an open module changed."""
    for follower in tuple(_followers):
        follower()
