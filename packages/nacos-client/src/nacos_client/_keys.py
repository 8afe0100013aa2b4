"""What identifies a configuration document and a service: checked, hashable, used everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ._validation import (
    validate_clusters,
    validate_data_id,
    validate_group,
    validate_namespace,
    validate_service,
)

__all__ = ("ConfigKey", "ServiceKey")

# Where the parameter is missing or blank, servers up to 3.2.0 take DEFAULT. A comma is neither, and
# splits into no name at all, which every version takes for no filter.
_ALL_CLUSTERS = ","


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """Identifies one configuration document."""

    namespace: str
    group: str
    data_id: str

    @classmethod
    def create(cls, data_id: str, group: str, namespace: str) -> ConfigKey:
        """A key whose parts Nacos accepts.

        Raises:
            InvalidArgumentError: one of them is not allowed.
        """
        return cls(validate_namespace(namespace), validate_group(group), validate_data_id(data_id))

    def to_parameters(self) -> dict[str, object]:
        """The request parameters that name the document."""
        return {"dataId": self.data_id, "groupName": self.group, "namespaceId": self.namespace}


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """Identifies one service and, if any are named, the clusters of interest; else all of them."""

    namespace: str
    group: str
    service: str
    clusters: tuple[str, ...] = ()

    @classmethod
    def create(
        cls, service: str, group: str, namespace: str, clusters: Sequence[str] = ()
    ) -> ServiceKey:
        """A key whose parts Nacos accepts.

        Raises:
            InvalidArgumentError: one of them is not allowed.
        """
        return cls(
            validate_namespace(namespace),
            validate_group(group),
            validate_service(service),
            validate_clusters(clusters),
        )

    def to_parameters(self) -> dict[str, object]:
        """The request parameters that name the service and its clusters."""
        return {
            "serviceName": self.service,
            "groupName": self.group,
            "namespaceId": self.namespace,
            "clusterName": ",".join(self.clusters) or _ALL_CLUSTERS,
        }
