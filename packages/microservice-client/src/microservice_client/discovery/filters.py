"""Filters: who of a service's instances may answer a call.

Any callable `(instances, context) -> instances` is one; lane-router's is another. They narrow, the
balancer chooses. Health, weight and zone are the balancer's stages, not filters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from microservice_core import InstanceFilter, InvalidValueError, RequestContext, ServiceInstance

__all__ = ("enabled", "labels", "version_range")


def enabled(
    instances: Sequence[ServiceInstance],
    context: RequestContext,  # noqa: ARG001 - part of what a filter is
) -> Sequence[ServiceInstance]:
    """Those that no operator has taken out."""
    kept = [instance for instance in instances if instance.enabled]
    return instances if len(kept) == len(instances) else kept


def labels(wanted: Mapping[str, str]) -> InstanceFilter:
    """Those whose metadata has each of these pairs."""
    pairs = tuple(wanted.items())

    def labelled(
        instances: Sequence[ServiceInstance],
        context: RequestContext,  # noqa: ARG001 - part of what a filter is
    ) -> Sequence[ServiceInstance]:
        return [
            instance
            for instance in instances
            if all(instance.metadata.get(key) == value for key, value in pairs)
        ]

    return labelled


def version_range(specifier: str) -> InstanceFilter:
    """Those whose metadata `version` is in the range, e.g. `>=1.2,<2` or `~=1.4`; empty = any.

    Pre-releases count only where the range names one, as in pip. A version that is none by PEP 440
    is in no range.

    Source: PEP 440, "Version specifiers".

    Raises:
        InvalidValueError: the range cannot be read.
    """
    try:
        wanted = SpecifierSet(specifier)
    except InvalidSpecifier as error:
        raise InvalidValueError("version", specifier, "a PEP 440 range such as '>=1.2,<2'") from (
            error
        )
    if not specifier.strip():
        return lambda instances, context: instances  # noqa: ARG005 - as above

    def in_range(
        instances: Sequence[ServiceInstance],
        context: RequestContext,  # noqa: ARG001 - part of what a filter is
    ) -> Sequence[ServiceInstance]:
        return [one for one in instances if _is_in(wanted, one.version)]

    return in_range


def _is_in(wanted: SpecifierSet, text: str) -> bool:
    version = _version(text)
    # Said out loud: without it, releases of packaging differ on a pre-release.
    return version is not None and wanted.contains(version, prereleases=bool(wanted.prereleases))


@lru_cache(maxsize=4096)
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
