"""Selects the instance of an attempt: filters narrow, the balancer chooses, the breaker agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from microservice_client.discovery.filters import apply_filters
from microservice_client.errors import NoInstanceCallError
from microservice_core import InstanceFilter, NoInstanceAvailableError, ServiceInstance
from microservice_governance import CircuitOpenError, Permit
from microservice_lb import Lease

from .call import Call
from .service import Service, build_policy_filters

__all__ = ("InstanceSelector",)


class InstanceSelector:
    """Selects an instance for an attempt.

    Args:
        filters: narrow the instances of every call, in order.
        service_filters: further filters by service name.
    """

    def __init__(
        self,
        filters: Sequence[InstanceFilter],
        service_filters: Mapping[str, Sequence[InstanceFilter]],
    ) -> None:
        self._filters = tuple(filters)
        self._service_filters = {name: tuple(items) for name, items in service_filters.items()}

    def select(self, service: Service, call: Call) -> tuple[Lease[ServiceInstance], Permit]:
        """Select an instance that the call has not tried, if there is one.

        Returns:
            The balancer's lease of the instance and its breaker's permit.

        Raises:
            NoInstanceCallError: no instance can be called; the message has the reason.
        """
        filters = self._find_filters(service, call)
        excluded = _excluded_by_filters(filters, service, call) if filters else set()
        cooling = service.find_cooling() if service.cooling_until else set()
        open_circuits: set[str] = set()
        while True:
            try:
                lease = service.balancer.acquire(
                    call.options.key, excluded | call.tried | cooling | open_circuits
                )
            except NoInstanceAvailableError as error:
                # First allow the instances that asked for a pause: they may still serve this call.
                # Then those where an attempt of this call failed already. Filters and open circuits
                # are never relaxed.
                if not (_relax_cool_downs(cooling) or _relax_tried(call)):
                    raise self._no_instance_error(service, call, open_circuits) from error
                continue
            instance_id = lease.endpoint.instance_id
            breaker = service.breakers.get(instance_id)
            if breaker is None:
                breaker = service.make_breaker(instance_id)
            try:
                permit = breaker.acquire()
            except CircuitOpenError:
                open_circuits.add(instance_id)
                lease.cancel()
            else:
                return lease, permit

    def has_alternative(self, service: Service, call: Call) -> bool:
        """Whether an instance is left that the call has not tried and that is not cooling down."""
        filters = self._find_filters(service, call)
        excluded = _excluded_by_filters(filters, service, call) if filters else set()
        busy = excluded | call.tried | set(service.cooling_until)
        return any(instance.instance_id not in busy for instance in service.eligible)

    def _find_filters(self, service: Service, call: Call) -> tuple[InstanceFilter, ...]:
        filters = self._filters
        if service_filters := self._service_filters.get(service.name):
            filters += service_filters
        if call.policy is not service.policy:
            filters += build_policy_filters(call.policy)
        if call.options.filters:
            filters += tuple(call.options.filters)
        return filters

    def _no_instance_error(
        self, service: Service, call: Call, open_circuits: set[str]
    ) -> NoInstanceCallError:
        remaining: Sequence[ServiceInstance] = service.instances
        if not remaining:
            return NoInstanceCallError(service.name, "no instances registered", call.attempts)
        for narrow in (*service.policy_filters, *self._find_filters(service, call)):
            count, remaining = len(remaining), narrow(remaining, call)
            if not remaining:
                reason = f"none of {count} instances passes the filter {_filter_name(narrow)}"
                return NoInstanceCallError(service.name, reason, call.attempts)
        if open_circuits:
            reason = f"the circuits of {', '.join(sorted(open_circuits))} are open"
        elif not any(instance.weight for instance in remaining):
            reason = f"all remaining instances ({len(remaining)}) have weight 0"
        else:
            reason = f"all remaining instances ({len(remaining)}) are unhealthy or have weight 0"
        return NoInstanceCallError(service.name, reason, call.attempts)


def _excluded_by_filters(
    filters: Sequence[InstanceFilter], service: Service, call: Call
) -> set[str]:
    eligible = service.eligible
    passing = apply_filters(eligible, filters, call)
    if len(passing) == len(eligible):
        return set()
    return {instance.instance_id for instance in eligible} - {
        instance.instance_id for instance in passing
    }


def _relax_cool_downs(cooling: set[str]) -> bool:
    """Allow the instances that are cooling down; return whether there were any."""
    relaxed = bool(cooling)
    cooling.clear()
    return relaxed


def _relax_tried(call: Call) -> bool:
    """Begin a new round through the instances; return whether any had been tried."""
    relaxed = bool(call.tried)
    call.tried.clear()
    return relaxed


def _filter_name(narrow: InstanceFilter) -> str:
    return getattr(narrow, "__name__", type(narrow).__name__)
