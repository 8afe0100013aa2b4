"""Lease: one call in flight on one endpoint, returned to its balancer exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from .node import E, Node

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ("Lease", "NeutralOutcome", "ObservedLease")

N_contra = TypeVar("N_contra", bound=Node[Any], contravariant=True)
N = TypeVar("N", bound=Node[Any])


class NeutralOutcome(BaseException):
    """Pass it as the outcome of a call that was never made: neither a success nor a failure.

    It is never raised. It is no `Exception`, so whatever records outcomes (leases, breaker permits,
    outlier ejection) treats it as it treats a cancellation.
    """


_CANCELLED = NeutralOutcome("the call was not made")


class _Lender(Protocol[N_contra]):
    def _release(self, node: N_contra, started: float, error: BaseException | None) -> None: ...


class Lease(Generic[E]):
    """Counts `endpoint` as active until `release`, the end of its `with` block or its collection.

    A second `release` does nothing. A lease that is dropped, or that ends with a cancellation (any
    `BaseException` that is no `Exception`), is released without counting as an outcome.
    """

    __slots__ = ("_lender", "_node", "_started", "endpoint")

    def __init__(self, lender: _Lender[N], node: N, started: float = 0.0) -> None:
        self.endpoint: E = node.endpoint
        self._lender: _Lender[Any] = lender
        self._node: Node[E] | None = node
        self._started = started

    def release(self, error: BaseException | None = None) -> None:
        """Stop counting the endpoint as active.

        Args:
            error: why the call failed; None if it succeeded.
        """
        # There is no call between the read and the write, so the interpreter does not switch
        # threads between them: of two concurrent releases only one gets the node.
        node = self._node
        self._node = None
        if node is not None:
            self._lender._release(node, self._started, error)  # noqa: SLF001 - its other half

    def cancel(self) -> None:
        """Release without an outcome, because the call was not made."""
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
    """A lease of an inner balancer whose release also calls `on_release` of the stage around it."""

    __slots__ = ("_inner", "_on_release")

    def __init__(
        self, inner: Lease[E], on_release: Callable[[E, BaseException | None], None]
    ) -> None:
        self._inner: Lease[E] | None = inner
        self._on_release = on_release
        # Only to say whether it is held: releasing goes through the inner lease.
        self._node = inner._node  # noqa: SLF001 - another lease's
        self.endpoint = inner.endpoint

    def release(self, error: BaseException | None = None) -> None:
        inner = self._inner
        self._inner = None
        if inner is not None:
            self._node = None
            inner.release(error)
            self._on_release(self.endpoint, error)
