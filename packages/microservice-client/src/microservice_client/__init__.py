"""Call services by name, as easily as httpx."""

from __future__ import annotations

from .addresses import StaticAddresses
from .client import AsyncServiceClient, ClientOptions, RequestOptions, ServiceClient
from .discovery import DiscoverySnapshot, InstanceSource
from .engine import CallEngine, RequestInterceptor
from .errors import (
    Attempt,
    CallFailedError,
    CallTimeoutError,
    ClientClosedError,
    NoInstanceCallError,
    ServiceCallError,
)
from .policy import ServicePolicy
from .transport import AsyncServiceTransport, ServiceTransport

__all__ = (
    "AsyncServiceClient",
    "AsyncServiceTransport",
    "Attempt",
    "CallEngine",
    "CallFailedError",
    "CallTimeoutError",
    "ClientClosedError",
    "ClientOptions",
    "DiscoverySnapshot",
    "InstanceSource",
    "NoInstanceCallError",
    "RequestInterceptor",
    "RequestOptions",
    "ServiceCallError",
    "ServiceClient",
    "ServicePolicy",
    "ServiceTransport",
    "StaticAddresses",
)
