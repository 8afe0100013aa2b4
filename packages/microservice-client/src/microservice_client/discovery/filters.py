"""Filters: which instances of a service may be called.

A filter is any callable `(instances, context) -> instances`; lane-router's `LaneInstanceFilter` is
another. Filters narrow, then the balancer chooses. Health, weight and zone are stages of the
balancer, not filters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from microservice_core import InstanceFilter, InvalidValueError, RequestContext, ServiceInstance

__all__ = ("apply_filters", "keep_enabled", "match_labels", "match_version")


def apply_filters(
    instances: Sequence[ServiceInstance],
    filters: Sequence[InstanceFilter],
    context: RequestContext,
) -> Sequence[ServiceInstance]:
    """Return the instances that pass every filter."""
    for narrow in filters:
        instances = narrow(instances, context)
    return instances


def keep_enabled(
    instances: Sequence[ServiceInstance],
    context: RequestContext,  # noqa: ARG001 - part of what a filter is
) -> Sequence[ServiceInstance]:
    """Keep the instances that no operator has disabled."""
    passing = [instance for instance in instances if instance.enabled]
    return instances if len(passing) == len(instances) else passing


def match_labels(labels: Mapping[str, str]) -> InstanceFilter:
    """Make a filter that keeps the instances whose metadata has each of these pairs."""
    pairs = tuple(labels.items())

    def filter_by_labels(
        instances: Sequence[ServiceInstance],
        context: RequestContext,  # noqa: ARG001 - part of what a filter is
    ) -> Sequence[ServiceInstance]:
        return [
            instance
            for instance in instances
            if all(instance.metadata.get(key) == value for key, value in pairs)
        ]

    return filter_by_labels


def match_version(specifier: str) -> InstanceFilter:
    """Make a filter that keeps the instances whose metadata `version` is in a range.

    Pre-releases match only if the range names one, as in pip. A version that is not valid by
    PEP 440 is in no range.

    Source: PEP 440, "Version specifiers".

    Args:
        specifier: e.g. `>=1.2,<2` or `~=1.4`; empty = any version.

    Raises:
        InvalidValueError: the range is not valid.
    """
    try:
        version_range = SpecifierSet(specifier)
    except InvalidSpecifier as error:
        raise InvalidValueError("version", specifier, "a PEP 440 range such as '>=1.2,<2'") from (
            error
        )
    if not specifier.strip():
        return lambda instances, context: instances  # noqa: ARG005 - part of what a filter is

    def filter_by_version(
        instances: Sequence[ServiceInstance],
        context: RequestContext,  # noqa: ARG001 - part of what a filter is
    ) -> Sequence[ServiceInstance]:
        return [instance for instance in instances if _is_in_range(version_range, instance.version)]

    return filter_by_version


def _is_in_range(version_range: SpecifierSet, text: str) -> bool:
    version = _parse_version(text)
    # `prereleases` is passed because releases of packaging differ in its default.
    return version is not None and version_range.contains(
        version, prereleases=bool(version_range.prereleases)
    )


@lru_cache(maxsize=4096)
def _parse_version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
