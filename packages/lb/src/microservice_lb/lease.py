"""Lease: one call in flight on one endpoint, given back exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from microservice_core import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .balancer import Node

__all__ = ("Lease", "ObservedLease")

E = TypeVar("E", bound=Endpoint)
E_contra = TypeVar("E_contra", bound=Endpoint, contravariant=True)

_CANCELLED = GeneratorExit("the call was not made or given up")


class _Lender(Protocol[E]):
    def _release(self, node: Node[E], started: float, error: BaseException | None) -> None: ...


class Lease(Generic[E]):
    """Holds `endpoint` as active until `release`, the end of its `with` block or its collection.

    The second and later releases do nothing. A lease that is dropped, or ended by a cancellation
    (any `BaseException` that is no `Exception`), gives its place back and counts as no outcome.
    """

    __slots__ = ("_lender", "_node", "_started", "endpoint")

    def __init__(self, lender: _Lender[E], node: Node[E], started: float = 0.0) -> None:
        self.endpoint = node.endpoint
        self._lender = lender
        self._node: Node[E] | None = node
        self._started = started

    def release(self, error: BaseException | None = None) -> None:
        """Give the place back; `error` is why the call failed, None if it did not."""
        # No call between the read and the write: no other thread can come in between.
        node = self._node
        self._node = None
        if node is not None:
            self._lender._release(node, self._started, error)  # noqa: SLF001 - its other half

    def cancel(self) -> None:
        """Give the place back as if it had never been taken: the call was not made after all."""
        self.release(_CANCELLED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release(exc)

    def __del__(self) -> None:
        if self._node is not None:
            self.cancel()

    def __repr__(self) -> str:
        state = "released" if self._node is None else "held"
        return f"<Lease of {self.endpoint.instance_id!r}, {state}>"


class ObservedLease(Lease[E]):
    """A lease of an inner balancer; its release is also told to the stage around it."""

    __slots__ = ("_inner", "_told")

    def __init__(self, inner: Lease[E], told: Callable[[E, BaseException | None], None]) -> None:
        self._inner: Lease[E] | None = inner
        self._told = told
        self._node = inner._node  # noqa: SLF001 - another lease's
        self.endpoint = inner.endpoint

    def release(self, error: BaseException | None = None) -> None:
        inner = self._inner
        self._inner = None
        if inner is not None:
            self._node = None
            inner.release(error)
            self._told(self.endpoint, error)
