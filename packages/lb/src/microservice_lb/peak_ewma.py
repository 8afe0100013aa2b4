"""Peak EWMA: the faster of two, by a moving average of latency that believes bad news at once."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, Unpack

from microservice_core import InvalidValueError

from .balancer import CommonOptions, E, Key, Node
from .lease import Lease
from .power_of_two_choices import PowerOfTwoChoices

if TYPE_CHECKING:
    from collections.abc import Collection

    from microservice_core import Endpoint

__all__ = ("PeakEwma",)

# Far beyond any score of a node that was measured, near enough for the load to count among equals.
_UNTRIED = -1e12
_ON_TRIAL = 1e12

_SHORTEST = 1e-6  # seconds; the logarithm needs something
_SUCCESS_GAIN = 0.1
_LEAST_SUCCESS = 0.01
_FLAWLESS = 0.999
_GAIN = 0.05

_LOG_OF_LOAD = tuple(log(1 + active) for active in range(1024))


class _EwmaNode(Node[E]):
    """A node and how it answers.

    Attributes:
        latency: seconds, the moving average; 0 before the first answer.
        success: moving average of 1 per success and 0 per failure.
        faded: when the last answer came, in units of the decay time since the balancer's start.
        score: logarithm of the cost of one call, as of time 0: see `PeakEwma`.
    """

    __slots__ = ("faded", "latency", "score", "success")

    def __init__(self, endpoint: E) -> None:
        super().__init__(endpoint)
        self.latency = 0.0
        self.success = 1.0
        self.faded = 0.0
        self.score = _UNTRIED


class PeakEwma(PowerOfTwoChoices[E]):
    """Of two endpoints drawn, the one where a call will likely be done first.

    Cost is latency x (calls in flight + 1) / success². A latency above the average counts at once,
    one below it by and by. The cost of an idle endpoint fades until it is no more than usual, so
    that a slow or failing one is tried again. A new endpoint counts as usual, but gets one call at
    a time until the first has come back. A failure never counts as faster than usual. Only calls
    made through `acquire`, or told to `on_outcome`, are measured.

    All costs fade by the same factor, so comparing two needs no clock: each endpoint keeps the
    logarithm of its cost as of time 0.

    Source: Finagle's PeakEwma, where costs fade to nothing; the success rate as in kratos' p2c.

    Args:
        decay_seconds: how long it takes for 63 % of an old latency to be forgotten.

    Raises:
        InvalidValueError: `decay_seconds` is not from 0.001 to 86400.
    """

    __slots__ = ("_epoch", "_floor", "_typical", "decay_seconds")

    _alike: tuple[list[_EwmaNode[E]], int, int] | None  # type: ignore[assignment] # all made by _new_node
    _nodes: dict[str, _EwmaNode[E]]  # type: ignore[assignment]

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
        self._typical = _UNTRIED
        self._floor = _UNTRIED

    def pick(self, key: Key = None, exclude: Collection[str] = ()) -> E:
        return self._choose(exclude).endpoint

    def acquire(self, key: Key = None, exclude: Collection[str] = ()) -> Lease[E]:
        node = self._choose(exclude)
        node.active += 1
        if node.score == _UNTRIED:
            node.score = _ON_TRIAL
        return Lease(self, node, self.clock())  # type: ignore[arg-type] # its nodes are ours

    def lease(self, endpoint: E) -> Lease[E]:
        node = self._nodes.get(endpoint.instance_id) or self._new_node(endpoint)
        node.active += 1
        if node.score == _UNTRIED:
            node.score = _ON_TRIAL
        return Lease(self, node, self.clock())  # type: ignore[arg-type] # its nodes are ours

    def _choose(self, exclude: Collection[str]) -> _EwmaNode[E]:
        alike = self._alike
        if exclude or alike is None:
            return self._better(*self._draw_two(exclude))  # type: ignore[arg-type]
        nodes, others, pairs = alike
        pair = int(self._random() * pairs)
        place = pair // others
        other = pair % others
        first = nodes[place]
        second = nodes[other if other < place else other + 1]
        try:
            floor = self._floor
            cost = first.score
            if cost < floor:  # noqa: PLR1730 - max() would double the price of a pick
                cost = floor
            other_cost = second.score
            if other_cost < floor:  # noqa: PLR1730
                other_cost = floor
            if other_cost + _LOG_OF_LOAD[second.active] < cost + _LOG_OF_LOAD[first.active]:
                return second
        except IndexError:
            return self._better(first, second)
        return first

    def on_outcome(
        self, endpoint: Endpoint, duration_seconds: float, error: BaseException | None
    ) -> None:
        """Learn from a call that held no lease; a cancellation teaches nothing."""
        node = self._nodes.get(endpoint.instance_id)
        if node is not None:
            node.active += 1
            self._release(node, self.clock() - duration_seconds, error)

    def latency(self, instance_id: str) -> float | None:
        """The moving average in seconds; None before the first answer."""
        node = self._nodes.get(instance_id)
        return None if node is None or not node.latency else node.latency

    def _why(self, node: _EwmaNode[E], key: Key) -> str:  # type: ignore[override]
        chosen = f"{node.endpoint.instance_id!r}: {node.active} active"
        if not node.latency:
            return f"{chosen}, not measured yet"
        latency = f"latency {node.latency * 1000:.3g} ms, success rate {node.success:.2f}"
        return f"{chosen}, {latency}, cost of one call e^{max(node.score, self._floor):.2f}"

    def _options(self) -> dict[str, object]:
        return {"decay_seconds": self.decay_seconds}

    def _new_node(self, endpoint: E) -> _EwmaNode[E]:
        return _EwmaNode(endpoint)

    def _better(  # type: ignore[override] # as above
        self, first: _EwmaNode[E], second: _EwmaNode[E]
    ) -> _EwmaNode[E]:
        return second if self._cost(second) < self._cost(first) else first

    def _cost(self, node: _EwmaNode[E]) -> float:
        """As the logarithm, for any number of calls and any weight."""
        return max(node.score, self._floor) + log(1 + max(0, node.active) / node.weight)

    def _release(
        self,
        node: _EwmaNode[E],  # type: ignore[override] # made by _new_node
        started: float,
        error: BaseException | None,
    ) -> None:
        node.active -= 1
        if error is not None and not isinstance(error, Exception):
            if node.score == _ON_TRIAL and not node.active:
                node.score = _UNTRIED
            return
        now = self.clock()
        duration = now - started
        if error is not None:
            duration = max(duration, node.latency, exp(self._typical))
        if duration < _SHORTEST:  # noqa: PLR1730 - as above
            duration = _SHORTEST
        faded = (now - self._epoch) / self.decay_seconds
        latency = node.latency
        if duration < latency:
            duration += (latency - duration) * exp(node.faded - faded)
        node.latency = duration
        node.faded = faded
        cost = log(duration)
        if error is None:
            typical = self._typical
            self._typical = typical + (cost - typical) * _GAIN if typical != _UNTRIED else cost
        self._floor = self._typical + faded
        if error is not None or node.success < 1.0:
            node.success += ((error is None) - node.success) * _SUCCESS_GAIN
            if node.success > _FLAWLESS:
                node.success = 1.0
            cost -= 2 * log(max(node.success, _LEAST_SUCCESS))
        node.score = cost + faded
