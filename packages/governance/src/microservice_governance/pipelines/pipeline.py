"""Pipeline: several policies as one; the first is outermost, and the order is checked."""

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

    The chain of wrapped functions is built once per decorated function, and again after `refresh`.
    A policy whose `enabled` is false is left out.

    Raises:
        PipelineOrderError: the order cannot work; the message explains why and what to do.
    """

    kind = "pipeline"

    def __init__(self, policies: Sequence[Policy], *, name: str = "pipeline") -> None:
        self.name = name
        self.policies: tuple[Policy, ...] = ()
        self.replace(policies)

    def replace(self, policies: Sequence[Policy]) -> None:
        """Use other policies for calls that begin from now on.

        Raises:
            PipelineOrderError: as for the constructor; nothing has changed.
        """
        parts = _flatten(policies)
        check_order([policy for policy in parts if policy.enabled])
        self.policies = parts
        self.refresh()

    def refresh(self) -> None:
        """Take account of changed `enabled` flags, for calls that begin from now on."""
        self._active = tuple(policy for policy in self.policies if policy.enabled)
        # `run(fn, *args)` passes its arguments on to `fn`. So the outermost `run` gets the inner
        # ones and the function as arguments: a.run(b.run, c.run, fn, *args) calls
        # b.run(c.run, fn, *args), and so on. No closure is built per call.
        self._outermost = self._active[0] if self._active else _PassThrough()
        self._inner_runs = (*(policy.run for policy in self._active[1:]),)
        self._inner_aruns = (*(policy.arun for policy in self._active[1:]),)
        # Decorated functions compare this by identity, to see that their chain is out of date.
        self._version = object()

    def check_sync(self, fn: Callable[..., object]) -> None:
        """Check that every policy can guard a plain function.

        Raises:
            TypeError: one of them cannot.
        """
        for policy in self._active:
            policy.check_sync(fn)

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn` under all policies."""
        calls: tuple[Any, ...] = (*self._inner_runs, fn)
        return cast("R", self._outermost.run(*calls, *args, **kwargs))

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `fn` under all policies."""
        calls: tuple[Any, ...] = (*self._inner_aruns, fn)
        return cast("R", await self._outermost.arun(*calls, *args, **kwargs))

    def guard_sync(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Wrap a plain function in all policies."""
        chain, version = self._build_sync_chain(fn), self._version

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal chain, version
            if version is not self._version:
                version, chain = self._version, self._build_sync_chain(fn)
            return chain(*args, **kwargs)

        return guarded

    def guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """Wrap an async function in all policies."""
        chain, version = self._build_async_chain(fn), self._version

        @functools.wraps(fn)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal chain, version
            if version is not self._version:
                version, chain = self._version, self._build_async_chain(fn)
            return await chain(*args, **kwargs)

        return guarded

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the events of all policies; returns a function that ends this."""
        for policy in self.policies:
            policy.subscribe(listener)
        return functools.partial(self.unsubscribe, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        for policy in self.policies:
            policy.unsubscribe(listener)

    def snapshot(self) -> dict[str, object]:
        """The snapshots of all policies, outermost first."""
        return {**super().snapshot(), "policies": [part.snapshot() for part in self.policies]}

    def __repr__(self) -> str:
        return f"pipeline({', '.join(map(repr, self.policies))})"

    def _build_sync_chain(self, fn: Callable[P, R]) -> Callable[P, R]:
        for policy in reversed(self._active):
            policy.check_sync(fn)
            fn = policy.guard_sync(fn)
        return fn

    def _build_async_chain(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        for policy in reversed(self._active):
            fn = policy.guard_async(fn)
        return fn


class _PassThrough(Policy):
    """Stands in for the outermost policy when every policy is disabled."""

    kind = "none"
    name = "none"

    def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return fn(*args, **kwargs)

    async def arun(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await fn(*args, **kwargs)


def pipeline(*policies: Policy, name: str = "pipeline") -> Pipeline:
    """Combine policies into one; the first is outermost.

    Raises:
        PipelineOrderError: the order cannot work; the message explains why and what to do.
    """
    return Pipeline(policies, name=name)


def _combine(outer: Policy, inner: Policy) -> Pipeline:
    """`outer | inner`: a pipeline of both."""
    return Pipeline((outer, inner))


Policy.__or__ = _combine  # type: ignore[method-assign] # policy.py declares it and says why


def _flatten(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """The policies, with those of inner pipelines in place of the pipelines."""
    parts: list[Policy] = []
    for policy in policies:
        parts += policy.policies if isinstance(policy, Pipeline) else [policy]
    return tuple(parts)
