"""How services are called, from the configuration: the key `calls`, live."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pydantic import BaseModel

from microservice_client import AsyncServiceClient, Policies, ServicePolicy, parse_policies
from microservice_core import InvalidValueError
from microservice_kit.config.data import MISSING, look_up
from microservice_kit.config.service import ConfigService

__all__ = ("CallPolicies",)

logger = logging.getLogger(__name__)

_CALLS_KEY = "calls"


class CallPolicies:
    """Gives a client the policies that the configuration has under `calls`, at each change.

    The form is that of `parse_policies`: `{"default": {...}, "services": {"orders": {...}}}`. Without
    the key the policies of the code apply. Invalid settings change nothing: they are logged, and the
    configuration's `problem` until they are corrected.

    Args:
        by_service, default: the policies that the application was built with.
    """

    def __init__(
        self,
        client: AsyncServiceClient,
        config: ConfigService[BaseModel],
        *,
        by_service: Mapping[str, ServicePolicy] | None = None,
        default: ServicePolicy | None = None,
    ) -> None:
        self._client = client
        self._config = config
        self._code_policies = Policies(default or ServicePolicy(), dict(by_service or {}))
        self._last_value: object = MISSING

    def refresh(self) -> None:
        """Apply the newest configuration."""
        value = look_up(self._config.version.data, _CALLS_KEY)
        if value == self._last_value:
            return
        self._last_value = value
        settings = value if isinstance(value, Mapping) else {}
        try:
            policies = self._code_policies if value is MISSING else parse_policies(settings)
            self._client.apply_policies(policies)
        except InvalidValueError as error:
            self._config.report_section(_CALLS_KEY, f"{error.field} must be {error.rule}")
            logger.error(  # noqa: TRY400 - the reason is in the message
                "configuration key %r: %s; keeping the previous call policies", _CALLS_KEY, error
            )
        else:
            self._config.report_section(_CALLS_KEY, None)
