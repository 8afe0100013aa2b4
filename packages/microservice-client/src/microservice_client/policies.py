"""Policies from a configuration: validated as a whole, and replaced while calls run."""

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

__all__ = ("Policies", "parse_policies", "watch_policies")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of services: `by_service`, and `default` for all others."""

    default: ServicePolicy = field(default_factory=ServicePolicy)
    by_service: Mapping[str, ServicePolicy] = field(default_factory=dict)

    def get(self, service: str) -> ServicePolicy:
        """Return the policy of the service."""
        return self.by_service.get(service, self.default)


def parse_policies(config: Mapping[str, object]) -> Policies:
    """Validate `{"default": {...}, "services": {"orders": {...}}}`.

    The fields of a service override those of `default`, which override `ServicePolicy`'s own.

    Raises:
        InvalidValueError: a field is unknown or not valid; the message names its place.
    """
    unknown = config.keys() - {"default", "services"}
    if unknown:
        raise InvalidValueError("policies", sorted(unknown), "fields `default` and `services` only")
    default = _require_mapping("default", config.get("default", {}))
    services = _require_mapping("services", config.get("services", {}))
    return Policies(
        _validate_policy("default", default),
        {
            name: _validate_policy(
                f"services.{name}", {**default, **_require_mapping(f"services.{name}", fields)}
            )
            for name, fields in services.items()
        },
    )


def watch_policies(
    apply: Callable[[Policies], None],
    center: ConfigCenter,
    data_id: str,
    *,
    group_name: str = "",
    parse: Callable[[str], object] = json.loads,
) -> Unsubscribe:
    """Apply a configuration center's document now and whenever it changes.

    A document that is not valid is logged and changes nothing; when the document is deleted, the
    defaults apply.

    Args:
        apply: receives the policies, e.g. `client.apply_policies`.
        center: the configuration center.
        data_id: name of the document.
        group_name: group of the document; the center's default when empty.
        parse: turns the document's text into a mapping; raises `ValueError` if it cannot.

    Returns:
        A callable that ends the watch.
    """

    def apply_document(document: ConfigResult | ConfigDeleted) -> None:
        try:
            if isinstance(document, ConfigDeleted):
                apply(Policies())
            else:
                apply(parse_policies(_require_mapping(data_id, parse(document.content))))
        except (ValueError, RecursionError) as error:
            # A parser's message may quote the document, so only the kind of its error is logged.
            reason = str(error) if isinstance(error, InvalidValueError) else type(error).__name__
            logger.warning(
                "cannot use policies from %s: %s; keeping the last ones", data_id, reason
            )
        else:
            logger.info("using policies from %s", data_id)

    if group_name:
        return center.watch_config(data_id, apply_document, group_name)
    return center.watch_config(data_id, apply_document)


def _require_mapping(place: str, value: object) -> dict[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidValueError(place, type(value).__name__, "a mapping of names")
    return dict(value)


def _validate_policy(place: str, fields: Mapping[str, object]) -> ServicePolicy:
    try:
        return ServicePolicy.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = ".".join([place, *(str(part) for part in first["loc"])])
        raise InvalidValueError(location, first["input"], first["msg"]) from None
