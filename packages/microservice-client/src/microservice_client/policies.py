"""Policies from a configuration: read as a whole, refused as a whole, changed while calls run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from microservice_core import (
    ConfigCenter,
    ConfigDeleted,
    ConfigResult,
    InvalidValueError,
    Unsubscribe,
)

from .policy import ServicePolicy

__all__ = ("Policies", "follow_policies", "policies_of")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policies:
    """The behaviour of calls: `by_service`, and `default` for all others."""

    default: ServicePolicy = field(default_factory=ServicePolicy)
    by_service: Mapping[str, ServicePolicy] = field(default_factory=dict)

    def of(self, service: str) -> ServicePolicy:
        """The behaviour of calls to the service."""
        return self.by_service.get(service, self.default)


def policies_of(config: Mapping[str, object]) -> Policies:
    """Read `{"default": {...}, "services": {"orders": {...}}}`; a service's fields go on top of it.

    Raises:
        InvalidValueError: the first thing that is wrong, with its place.
    """
    unknown = config.keys() - {"default", "services"}
    if unknown:
        raise InvalidValueError("policies", sorted(unknown), "fields `default` and `services` only")
    default = _mapping("default", config.get("default", {}))
    services = _mapping("services", config.get("services", {}))
    return Policies(
        _policy("default", default),
        {
            name: _policy(f"services.{name}", {**default, **_mapping(f"services.{name}", own)})
            for name, own in services.items()
        },
    )


def follow_policies(
    apply: Callable[[Policies], None],
    center: ConfigCenter,
    data_id: str,
    *,
    group_name: str = "",
    parse: Callable[[str], object] = json.loads,
) -> Unsubscribe:
    """Apply a configuration center's document now and whenever it changes.

    A document that cannot be used is reported and changes nothing; a deleted one brings the
    defaults back.

    Args:
        apply: what to do with the policies, e.g. `client.apply_policies`.
        center: where the document is.
        data_id: which one.
        group_name: of which group; the center's default when empty.
        parse: what makes a mapping of its text, raising a ValueError when it cannot.
    """

    def take(document: ConfigResult | ConfigDeleted) -> None:
        try:
            if isinstance(document, ConfigDeleted):
                apply(Policies())
            else:
                apply(policies_of(_mapping(data_id, parse(document.content))))
        except (ValueError, RecursionError) as error:
            # The parser's message may quote the document: its kind must do.
            told = str(error) if isinstance(error, InvalidValueError) else type(error).__name__
            logger.warning(
                "policies in %s are not used, the last good ones stay: %s", data_id, told
            )
        else:
            logger.info("policies of %s are in force", data_id)

    if group_name:
        return center.watch_config(data_id, take, group_name)
    return center.watch_config(data_id, take)


def _mapping(place: str, value: object) -> dict[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidValueError(place, type(value).__name__, "a mapping of names")
    return dict(value)


def _policy(place: str, fields: Mapping[str, object]) -> ServicePolicy:
    try:
        return ServicePolicy.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([place, *(str(part) for part in first["loc"])])
        raise InvalidValueError(where, first["input"], first["msg"]) from None
