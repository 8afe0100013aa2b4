"""Whether the registry lists an instance as it was registered: an operator's change outlives a restart."""

from __future__ import annotations

import logging

from microservice_core import InstanceQuery, ServiceInstance, ServiceRegistry

__all__ = ("warn_if_listed_otherwise",)

logger = logging.getLogger(__name__)

_WEIGHT_TOLERANCE = 1e-6


async def warn_if_listed_otherwise(registry: ServiceRegistry, expected: ServiceInstance) -> bool:
    """Log a warning when an instance is listed as disabled, or with another weight; return whether.

    Args:
        expected: the instance as it was registered last.

    Raises:
        ServiceRegistryError: the registry cannot be read.
    """
    clusters = (expected.cluster_name,) if expected.cluster_name else ()
    query = InstanceQuery(
        group_name=expected.group_name, namespace_id=expected.namespace_id, clusters=clusters
    )
    listed = await registry.get_instances(expected.service_name, query)
    own = [
        instance
        for instance in listed
        if (instance.ip, instance.port) == (expected.ip, expected.port)
    ]
    differences = _describe_differences(expected, own[0]) if own else ""
    if differences:
        logger.warning(
            "%s at %s is listed as %s: a change made in the registry outlives the restart of an "
            "instance; undo it there, or it takes no calls or another share of them",
            expected.service_name,
            expected.address,
            differences,
        )
    return bool(differences)


def _describe_differences(expected: ServiceInstance, listed: ServiceInstance) -> str:
    differences = []
    if listed.enabled != expected.enabled:
        differences.append("enabled" if listed.enabled else "disabled")
    if abs(listed.weight - expected.weight) > _WEIGHT_TOLERANCE:
        differences.append(f"of weight {listed.weight:g}, registered as {expected.weight:g}")
    return " and ".join(differences)
