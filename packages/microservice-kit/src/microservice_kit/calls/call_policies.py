"""How services are called, from the configuration: the key `calls`, live."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from microservice_client import Policies, parse_policies
from microservice_core import InvalidValueError
from microservice_kit.config.placeholders import MISSING, lookup

if TYPE_CHECKING:
    from pydantic import BaseModel

    from microservice_client import AsyncServiceClient, ServicePolicy
    from microservice_kit.config.service import ConfigService

__all__ = ("CallPolicies",)

logger = logging.getLogger(__name__)

CALLS = "calls"


class CallPolicies:
    """Gives a client what the configuration says under `calls`, now and at each change.

    The form is that of `parse_policies`: `{"default": {...}, "services": {"orders": {...}}}`. Without
    the key the application's own policies hold; settings that are wrong change nothing.
    """

    def __init__(
        self,
        client: AsyncServiceClient,
        config: ConfigService[BaseModel],
        own: Mapping[str, ServicePolicy] | None,
    ) -> None:
        self._client = client
        self._config = config
        self._own = Policies(by_service=dict(own or {}))
        self._seen: object = MISSING

    def refresh(self) -> None:
        """Look at the configuration of now."""
        found = lookup(self._config.version.data, CALLS)
        if found == self._seen:
            return
        self._seen = found
        try:
            given = found if isinstance(found, Mapping) else {}
            self._client.apply_policies(self._own if found is MISSING else parse_policies(given))
        except InvalidValueError as error:
            logger.error("configuration %r: %s; calls go on as before", CALLS, error)  # noqa: TRY400
