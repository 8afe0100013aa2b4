"""Which policy may stand inside which, and why not.

Outer to inner: fallback, total timeout, load shedding, bulkhead or adaptive limit, a breaker of the
whole service, retry, hedge, a breaker per instance, rate limit, attempt timeout, fault injection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from microservice_governance.errors import PipelineOrderError
from microservice_governance.policy import Policy
from microservice_governance.timeouts.timeout import Timeout

__all__ = ("check_order",)

_OUTSIDE_OF_FALLBACK = "it would take the failure that the fallback answers for as its own success"
_PLACES_PER_CALL = (
    "each attempt would queue anew for a place that the call should hold from first to last"
)
_QUOTA = "a quota counts attempts, and this one would count only the first"
_DRILL = "an injected fault has to meet every policy that should bear it"

# (outer, inner): why that cannot work.
_WHY_NOT: dict[tuple[str, str], str] = {
    **{
        (outer, "fallback"): _OUTSIDE_OF_FALLBACK
        for outer in (
            "timeout",
            "load_shedding",
            "bulkhead",
            "adaptive_limit",
            "circuit_breaker",
            "retry",
            "hedge",
            "rate_limiter",
        )
    },
    **{
        (outer, inner): _PLACES_PER_CALL
        for outer in ("retry", "hedge")
        for inner in ("bulkhead", "adaptive_limit", "load_shedding")
    },
    **{("rate_limiter", inner): _QUOTA for inner in ("retry", "hedge")},
    ("rate_limiter", "circuit_breaker"): "calls that the open circuit refuses would use up quota",
    ("hedge", "retry"): "each of the parallel attempts would be retried on its own",
    ("retry", "retry"): "the attempts of both would multiply",
    ("hedge", "hedge"): "the attempts of both would multiply",
}


def check_order(policies: Sequence[Policy]) -> None:
    """Refuse what cannot work.

    Raises:
        PipelineOrderError: two policies stand the wrong way round, one is there twice, or the
            limits of two timeouts contradict each other.
    """
    for problem in _problems(policies):
        raise PipelineOrderError(problem)


def _problems(policies: Sequence[Policy]) -> Iterator[str]:
    for outer, inner in combinations(policies, 2):
        if outer is inner:
            yield f"{outer!r} is there twice: make two of them, or leave one out"
        why = _WHY_NOT.get((outer.kind, inner.kind))
        if outer.kind == "fault_injection":
            why = _DRILL
        if why is not None:
            yield f"{_shown(inner)} may not stand inside {_shown(outer)}: {why}; put it outside"
        if isinstance(outer, Timeout) and isinstance(inner, Timeout):
            yield from _contradiction(outer, inner)
    yield from _blind_breakers(policies)


def _contradiction(total: Timeout, attempt: Timeout) -> Iterator[str]:
    if attempt.seconds >= total.seconds:
        yield (
            f"{_shown(attempt)} with {attempt.seconds:g} s stands inside {_shown(total)} with "
            f"{total.seconds:g} s and would never end a call: make it shorter, or leave it out"
        )


def _blind_breakers(policies: Sequence[Policy]) -> Iterator[str]:
    kinds = [policy.kind for policy in policies]
    for place, policy in enumerate(policies):
        if policy.kind != "circuit_breaker":
            continue
        if "timeout" in kinds[:place] and "timeout" not in kinds[place:]:
            yield (
                f"{_shown(policy)} stands inside a timeout and none stands inside it: what is "
                "cancelled from outside counts as no outcome, so a backend that hangs would never "
                "open the circuit; put a shorter Timeout inside"
            )


def _shown(policy: Policy) -> str:
    return f"{policy.kind} {str(policy.name)!r}"
