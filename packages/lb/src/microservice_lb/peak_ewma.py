"""Peak EWMA: the faster of two, by a moving average of latency that rises at once."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, Unpack

from microservice_core import InvalidValueError

from .balancer import CommonOptions, Key
from .lease import Lease
from .node import E, Node
from .power_of_two_choices import TwoChoicesBalancer

if TYPE_CHECKING:
    from collections.abc import Collection

    from microservice_core import Endpoint

__all__ = ("PeakEwma",)

# Scores of a node without a measurement: before its first call, and while that call is in flight.
# Far outside the range of measured scores, yet small enough for a float that adding the logarithm
# of the load still makes a difference between two such nodes.
_UNMEASURED = -1e12
_FIRST_CALL = 1e12

_MIN_DURATION_SECONDS = 1e-6  # the logarithm of 0 is undefined
_SUCCESS_GAIN = 0.1
_MIN_SUCCESS = 0.1  # a cost of a hundred times, which fades in five decay times
_FLAWLESS = 0.999
_GAIN = 0.05

# Indexed by the number of active calls; one lookup instead of a logarithm per pick.
_LOG_OF_LOAD = tuple(log(1 + active) for active in range(1024))


class _EwmaNode(Node[E]):
    """A node with its latency and success rate.

    Attributes:
        latency: moving average in seconds; 0 before the first response.
        success: moving average of 1 per success and 0 per failure.
        faded: time of the last response, in decay times since the balancer's start.
        score: logarithm of the cost of one call, as of time 0; see `PeakEwma`.
    """

    __slots__ = ("faded", "latency", "score", "success")

    def __init__(self, endpoint: E) -> None:
        super().__init__(endpoint)
        self.latency = 0.0
        self.success = 1.0
        self.faded = 0.0
        self.score = _UNMEASURED


class PeakEwma(TwoChoicesBalancer[E, _EwmaNode[E]]):
    """Of two endpoints drawn at random, the one where a call will probably finish first.

    Cost is latency x (calls in flight + 1) / success². A latency above the average counts at once,
    a lower one gradually. The cost of an idle endpoint fades until it is no more than typical, so
    that a slow or failing one is tried again. A new endpoint counts as typical, but gets one call
    at a time until the first has come back. A failure never counts as faster than typical. Only
    calls made through `acquire`, or reported to `on_outcome`, are measured.

    All costs fade by the same factor, so comparing two needs no clock: each endpoint keeps the
    logarithm of its cost as of time 0.

    Source: Finagle's PeakEwma, where costs fade to nothing; the success rate as in kratos' p2c.

    Args:
        decay_seconds: time in which 63 % of an old latency is forgotten.

    Raises:
        InvalidValueError: `decay_seconds` is not from 0.001 to 86400.
    """

    __slots__ = ("_epoch", "_floor", "_typical", "decay_seconds")

    def __init__(
        self,
        *,
        decay_seconds: float = 10.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        if not 0.001 <= decay_seconds <= 86_400:
            raise InvalidValueError("decay_seconds", decay_seconds, "from 0.001 to 86400")
        super().__init__(**common)
        self.decay_seconds = decay_seconds
        self._epoch = self.clock()
        # The logarithm of the typical latency, and what a score is raised to when it is lower:
        # the typical cost now, as of time 0. It only rises as time passes.
        self._typical = _UNMEASURED
        self._floor = _UNMEASURED

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        endpoint: E = self._choose(exclude).endpoint
        return endpoint

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        return self._start_lease(self._choose(exclude))

    def _start_lease(self, node: _EwmaNode[E]) -> Lease[E]:
        node.active += 1
        if node.score == _UNMEASURED:
            node.score = _FIRST_CALL
        return Lease(self, node, self.clock())

    def _choose(self, exclude: Collection[str]) -> _EwmaNode[E]:
        equal_weights = self._equal_weights
        if exclude:
            return self._choose_excluding(exclude)
        if equal_weights is None:
            return self._choose_cheaper(*self._draw_two(()))
        # The fast path: `_choose_cheaper` for equal weights, without a call or a logarithm.
        nodes, others, pairs = equal_weights
        pair = int(self._random() * pairs)
        place = pair // others
        other = pair % others
        first = nodes[place]
        second = nodes[other if other < place else other + 1]
        floor = self._floor
        cost = first.score
        if cost < floor:  # noqa: PLR1730 - max() would double the price of a pick
            cost = floor
        other_cost = second.score
        if other_cost < floor:  # noqa: PLR1730 - as above
            other_cost = floor
        try:
            # IndexError is the way out for more than 1023 active calls. `active` is never negative
            # (which would read the table from its end): every release follows an acquire of the
            # same node, and with the GIL no thread switch falls inside `active += 1`.
            if other_cost + _LOG_OF_LOAD[second.active] < cost + _LOG_OF_LOAD[first.active]:
                return second
        except IndexError:
            return self._choose_cheaper(first, second)
        return first

    def _choose_excluding(self, exclude: Collection[str]) -> _EwmaNode[E]:
        endpoint = self._retry_draw(exclude)
        node = self._nodes.get(endpoint.instance_id) if endpoint is not None else None
        return node or self._choose_cheaper(*self._draw_two(exclude))

    def on_outcome(
        self, endpoint: Endpoint, duration_seconds: float, error: BaseException | None
    ) -> None:
        """Measure a call that held no lease; a cancellation is not counted.

        Args:
            endpoint: where the call went.
            duration_seconds: how long the call took.
            error: why the call failed; None if it succeeded.
        """
        node = self._nodes.get(endpoint.instance_id)
        if node is not None:
            node.active += 1
            self._release(node, self.clock() - duration_seconds, error)

    def latency(self, instance_id: str) -> float | None:
        """The moving average in seconds; None before the first response."""
        node = self._nodes.get(instance_id)
        return None if node is None or not node.latency else node.latency

    def _reason(self, node: _EwmaNode[E], key: Key) -> str:
        chosen = f"{node.endpoint.instance_id!r}: {node.active} active"
        if not node.latency:
            return f"{chosen}, not measured yet"
        latency = f"latency {node.latency * 1000:.3g} ms, success rate {node.success:.2f}"
        return f"{chosen}, {latency}, cost of one call e^{max(node.score, self._floor):.2f}"

    def _repr_options(self) -> dict[str, object]:
        return {"decay_seconds": self.decay_seconds}

    def _make_node(self, endpoint: E) -> _EwmaNode[E]:
        return _EwmaNode(endpoint)

    def _choose_cheaper(self, first: _EwmaNode[E], second: _EwmaNode[E]) -> _EwmaNode[E]:
        return second if self._cost(second) < self._cost(first) else first

    def _cost(self, node: _EwmaNode[E]) -> float:
        """The logarithm of the cost, for any number of calls and any weight."""
        # max(0, ...): an update lost on a free-threaded build must not make the logarithm raise.
        return max(node.score, self._floor) + log(1 + max(0, node.active) / node.weight)

    def _release(
        self,
        node: _EwmaNode[E],
        started: float,
        error: BaseException | None,
    ) -> None:
        node.active -= 1
        if error is not None and not isinstance(error, Exception):
            if node.score == _FIRST_CALL and not node.active:
                node.score = _UNMEASURED
            return
        # One long function on purpose: it is most of what acquire and release cost.
        now = self.clock()
        duration = now - started
        if error is not None:
            duration = max(duration, node.latency, exp(self._typical))
        if duration < _MIN_DURATION_SECONDS:  # noqa: PLR1730 - as above
            duration = _MIN_DURATION_SECONDS
        faded = (now - self._epoch) / self.decay_seconds
        if faded < node.faded:  # noqa: PLR1730 - as above; a clock that steps back stands still
            faded = node.faded
        latency = node.latency
        if duration < latency:
            duration += (latency - duration) * exp(node.faded - faded)
        node.latency = duration
        node.faded = faded
        cost = log(duration)
        if error is None:
            typical = self._typical
            self._typical = typical + (cost - typical) * _GAIN if typical != _UNMEASURED else cost
        self._floor = self._typical + faded
        if error is not None or node.success < 1.0:
            node.success += ((error is None) - node.success) * _SUCCESS_GAIN
            if node.success > _FLAWLESS:
                node.success = 1.0
            cost -= 2 * log(max(node.success, _MIN_SUCCESS))
        node.score = cost + faded
