"""The order of policies in a pipeline: which may be inside which, and why.

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

_FALLBACK_HIDES_FAILURE = "it would see the result of the fallback and take the call for a success"
_PERMIT_PER_ATTEMPT = (
    "each attempt would queue again for a permit that the call should hold from first to last"
)
_QUOTA_PER_CALL = "a quota counts attempts, and this one would count only the first"
_FAULT_OUTSIDE = "an injected fault has to reach every policy that should handle it"

# (outer, inner): why that cannot work.
_FORBIDDEN: dict[tuple[str, str], str] = {
    **{
        (outer, "fallback"): _FALLBACK_HIDES_FAILURE
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
        (outer, inner): _PERMIT_PER_ATTEMPT
        for outer in ("retry", "hedge")
        for inner in ("bulkhead", "adaptive_limit", "load_shedding")
    },
    **{("rate_limiter", inner): _QUOTA_PER_CALL for inner in ("retry", "hedge")},
    ("rate_limiter", "circuit_breaker"): "calls that the open circuit refuses would use up quota",
    ("hedge", "retry"): "each of the parallel attempts would be retried on its own",
    ("retry", "retry"): "the attempts of both would multiply",
    ("hedge", "hedge"): "the attempts of both would multiply",
}


def check_order(policies: Sequence[Policy]) -> None:
    """Check that policies, outermost first, work together.

    Raises:
        PipelineOrderError: two policies are the wrong way round, one is there twice, or the
            limits of two timeouts contradict each other.
    """
    for problem in _find_problems(policies):
        raise PipelineOrderError(problem)


def _find_problems(policies: Sequence[Policy]) -> Iterator[str]:
    for outer, inner in combinations(policies, 2):
        if outer is inner:
            yield f"{outer!r} is there twice: make two of them, or leave one out"
        reason = _FORBIDDEN.get((outer.kind, inner.kind))
        if outer.kind == "fault_injection":
            reason = _FAULT_OUTSIDE
        if reason is not None:
            yield f"{_title(inner)} may not be inside {_title(outer)}: {reason}; put it outside"
        if isinstance(outer, Timeout) and isinstance(inner, Timeout):
            yield from _find_timeout_conflict(outer, inner)
    yield from _find_blind_breakers(policies)


def _find_timeout_conflict(total: Timeout, attempt: Timeout) -> Iterator[str]:
    if attempt.seconds >= total.seconds:
        yield (
            f"{_title(attempt)} with {attempt.seconds:g} s is inside {_title(total)} with "
            f"{total.seconds:g} s and would never end a call: make it shorter, or leave it out"
        )


def _find_blind_breakers(policies: Sequence[Policy]) -> Iterator[str]:
    """Breakers that would never see a timeout: it cancels them from outside."""
    kinds = [policy.kind for policy in policies]
    for index, policy in enumerate(policies):
        if policy.kind != "circuit_breaker":
            continue
        if "timeout" in kinds[:index] and "timeout" not in kinds[index:]:
            yield (
                f"{_title(policy)} is inside a timeout and has none inside itself: a call that is "
                "cancelled from outside does not count, so a backend that hangs would never "
                "open the circuit; put a shorter Timeout inside"
            )


def _title(policy: Policy) -> str:
    return f"{policy.kind} {str(policy.name)!r}"
