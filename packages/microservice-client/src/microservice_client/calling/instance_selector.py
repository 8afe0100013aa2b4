"""Who is asked next: filters narrow, the balancer chooses, the breaker agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from microservice_client.errors import NoInstanceCallError
from microservice_core import InstanceFilter, NoInstanceAvailableError, ServiceInstance
from microservice_governance import CircuitOpenError, Permit
from microservice_lb import Lease

from .call import Call
from .service import Service, admitted, static_filters

__all__ = ("Choosing",)


class Choosing:
    """Chooses an instance for an attempt.

    Args:
        filters: narrow the instances of every call, in order.
        service_filters: after them, by service name.
    """

    def __init__(
        self,
        filters: Sequence[InstanceFilter],
        service_filters: Mapping[str, Sequence[InstanceFilter]],
    ) -> None:
        self._filters = tuple(filters)
        self._service_filters = {name: tuple(own) for name, own in service_filters.items()}

    def choose(self, service: Service, call: Call) -> tuple[Lease[ServiceInstance], Permit]:
        """An instance, with its lease and its breaker's permit.

        Raises:
            NoInstanceCallError: nobody can be asked; it says why.
        """
        left_out = self.left_out(service, call)
        resting = service.resting_now() if service.resting else set()
        refused: set[str] = set()
        while True:
            try:
                lease = service.balancer.acquire(
                    call.options.key, left_out | call.tried | resting | refused
                )
            except NoInstanceAvailableError as error:
                # Rather one that asked for a rest than nobody; rather one that was tried.
                if resting:
                    resting = set()
                elif call.tried:
                    call.tried.clear()
                else:
                    raise self._nobody(service, call, refused) from error
                continue
            try:
                permit = service.breaker(lease.endpoint.instance_id).acquire()
            except CircuitOpenError:
                refused.add(lease.endpoint.instance_id)
                lease.cancel()
            else:
                return lease, permit

    def left_out(self, service: Service, call: Call) -> set[str]:
        """The ids of those that the call's filters leave out."""
        filters = self._filters_of(service, call)
        if not filters:
            return set()
        eligible = service.eligible
        kept = admitted(eligible, filters, call)
        if len(kept) == len(eligible):
            return set()
        return {one.instance_id for one in eligible} - {one.instance_id for one in kept}

    def _filters_of(self, service: Service, call: Call) -> tuple[InstanceFilter, ...]:
        filters = self._filters
        if own := self._service_filters.get(service.name):
            filters += own
        if call.policy is not service.policy:
            filters += static_filters(call.policy)
        if call.options.filters:
            filters += tuple(call.options.filters)
        return filters

    def _nobody(self, service: Service, call: Call, refused: set[str]) -> NoInstanceCallError:
        left: Sequence[ServiceInstance] = service.instances
        if not left:
            return NoInstanceCallError(service.name, "none is registered", call.attempts)
        for narrow in (*service.static_filters, *self._filters_of(service, call)):
            before, left = left, narrow(left, call)
            if not left:
                reason = f"all {len(before)} left are filtered out by {_name_of(narrow)}"
                return NoInstanceCallError(service.name, reason, call.attempts)
        if refused:
            reason = f"the circuits of {', '.join(sorted(refused))} are open"
        elif not any(one.weight for one in left):
            reason = f"all {len(left)} left have weight 0"
        else:
            reason = f"all {len(left)} left are unhealthy, or of weight 0"
        return NoInstanceCallError(service.name, reason, call.attempts)


def _name_of(narrow: InstanceFilter) -> str:
    return getattr(narrow, "__name__", type(narrow).__name__)
