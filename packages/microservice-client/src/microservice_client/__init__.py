"""Call services by name, as easily as httpx."""

from __future__ import annotations

from .call_options import CallOptions, FallbackResponse
from .calling.recent_calls import CallRecord
from .calling.stats import ServiceStats
from .client import AsyncServiceClient
from .declarative.decorators import service_call, service_client
from .declarative.parameters import Body, Header, Path, Query
from .discovery.addresses import DnsAddresses, FirstSource, StaticAddresses
from .discovery.filters import keep_enabled, match_labels, match_version
from .discovery.instance_cache import InstanceCache
from .discovery.instance_source import InstanceSource
from .errors import (
    Attempt,
    BodyBrokenError,
    BodyTooLargeError,
    CallFailedError,
    CallRejectedError,
    CallStatusError,
    CallTimeoutError,
    ClientClosedError,
    DeclarationError,
    NoFreeConnectionError,
    NoInstanceCallError,
    ResponseFormatError,
    ServiceCallError,
)
from .http.connections import ConnectionLayer
from .http.event_streams import MessageTooLongError, ServerSentEvent, aiter_events, aiter_json_lines
from .http.requests import RequestOptions
from .interceptors.builtin import (
    CallLog,
    ErrorMapping,
    HeaderForwarding,
    ResponseTransform,
    TraceContextForwarding,
    UserInfoForwarding,
    inbound_headers,
)
from .interceptors.chain import Interceptor, RequestInterceptor, ResendRequest
from .options import ClientOptions
from .policies import Policies, parse_policies, watch_policies
from .policy import ServicePolicy, TlsConfig
from .problem import ProblemDocument
from .sync_client import ServiceClient
from .transport import AsyncServiceTransport, ServiceTransport

__all__ = (
    "AsyncServiceClient",
    "AsyncServiceTransport",
    "Attempt",
    "Body",
    "BodyBrokenError",
    "BodyTooLargeError",
    "CallFailedError",
    "CallLog",
    "CallOptions",
    "CallRecord",
    "CallRejectedError",
    "CallStatusError",
    "CallTimeoutError",
    "ClientClosedError",
    "ClientOptions",
    "ConnectionLayer",
    "DeclarationError",
    "DnsAddresses",
    "ErrorMapping",
    "FallbackResponse",
    "FirstSource",
    "Header",
    "HeaderForwarding",
    "InstanceCache",
    "InstanceSource",
    "Interceptor",
    "MessageTooLongError",
    "NoFreeConnectionError",
    "NoInstanceCallError",
    "Path",
    "Policies",
    "ProblemDocument",
    "Query",
    "RequestInterceptor",
    "RequestOptions",
    "ResendRequest",
    "ResponseFormatError",
    "ResponseTransform",
    "ServerSentEvent",
    "ServiceCallError",
    "ServiceClient",
    "ServicePolicy",
    "ServiceStats",
    "ServiceTransport",
    "StaticAddresses",
    "TlsConfig",
    "TraceContextForwarding",
    "UserInfoForwarding",
    "aiter_events",
    "aiter_json_lines",
    "inbound_headers",
    "keep_enabled",
    "match_labels",
    "match_version",
    "parse_policies",
    "service_call",
    "service_client",
    "watch_policies",
)
