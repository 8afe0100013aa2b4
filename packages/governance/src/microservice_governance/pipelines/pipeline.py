"""Pipeline: several policies as one, the left one outermost, in an order that works."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from microservice_governance.events import Listener
from microservice_governance.policy import Policy

from .order import check_order

__all__ = ("Pipeline", "pipeline")

P = ParamSpec("P")
R = TypeVar("R")


class Pipeline(Policy):
    """Policies around a call: `pipeline(outer, ..., inner)`.

    The way through them is put together once per decorated function, and again after
    `refresh`. A policy whose `enabled` is false is not on it.

    Raises:
        PipelineOrderError: the order cannot work; the message says why and what to do.
    """

    kind = "pipeline"

    def __init__(self, policies: Sequence[Policy], *, name: str = "pipeline") -> None:
        self.name = name
        self.policies: tuple[Policy, ...] = ()
        self.replace(policies)

    def replace(self, policies: Sequence[Policy]) -> None:
        """Have calls that begin from now on take these.

        Raises:
            PipelineOrderError: as for the constructor; nothing was changed.
        """
        parts = flattened(policies)
        check_order([policy for policy in parts if policy.enabled])
        self.policies = parts
        self.refresh()

    def refresh(self) -> None:
        """Have the next calls take the way that `enabled` says now."""
        self._active = tuple(policy for policy in self.policies if policy.enabled)
        # The outer policy is given the next one to call, and that one the next.
        self._first = self._active[0] if self._active else _Nothing()
        self._inner_runs = (*(one.run for one in self._active[1:]),)
        self._inner_aruns = (*(one.arun for one in self._active[1:]),)
        self._version = object()

    def check_sync(self, fn: Callable[..., object]) -> None:
        """Refuse to guard a plain function if one of the policies cannot.

        Raises:
            TypeError: one cannot.
        """
        for policy in self._active:
            policy.check_sync(fn)

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` under all policies."""
        calls: tuple[Any, ...] = (*self._inner_runs, fn)
        return cast("R", self._first.run(*calls, *args, **kwargs))

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` under all policies."""
        calls: tuple[Any, ...] = (*self._inner_aruns, fn)
        return cast("R", await self._first.arun(*calls, *args, **kwargs))

    def guard_sync(self, fn: Callable[P, R]) -> Callable[P, R]:
        """`fn` under all policies."""
        chain, version = self._sync_chain(fn), self._version

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal chain, version
            if version is not self._version:
                version, chain = self._version, self._sync_chain(fn)
            return chain(*args, **kwargs)

        return guarded

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """`fn` under all policies."""
        chain, version = self._async_chain(fn), self._version

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal chain, version
            if version is not self._version:
                version, chain = self._version, self._async_chain(fn)
            return await chain(*args, **kwargs)

        return guarded

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` told of the events of all policies."""
        for policy in self.policies:
            policy.subscribe(listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell that listener no more."""
        for policy in self.policies:
            policy.unsubscribe(listener)

    def snapshot(self) -> dict[str, object]:
        """The snapshots of all policies, outermost first."""
        return {**super().snapshot(), "policies": [one.snapshot() for one in self.policies]}

    def __repr__(self) -> str:
        return f"pipeline({', '.join(map(repr, self.policies))})"

    def _sync_chain(self, fn: Callable[P, R]) -> Callable[P, R]:
        for policy in reversed(self._active):
            policy.check_sync(fn)
            fn = policy.guard_sync(fn)
        return fn

    def _async_chain(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        for policy in reversed(self._active):
            fn = policy.guard_async(fn)
        return fn


def pipeline(*policies: Policy, name: str = "pipeline") -> Pipeline:
    """One policy out of several; the left one is outermost.

    Raises:
        PipelineOrderError: the order cannot work; the message says why and what to do.
    """
    return Pipeline(policies, name=name)


def flattened(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """Pipelines inside are taken apart."""
    parts: list[Policy] = []
    for policy in policies:
        parts += policy.policies if isinstance(policy, Pipeline) else [policy]
    return tuple(parts)


class _Nothing(Policy):
    """What is left when every policy is disabled."""

    kind = "nothing"
    name = "nothing"

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return fn(*args, **kwargs)

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await fn(*args, **kwargs)
