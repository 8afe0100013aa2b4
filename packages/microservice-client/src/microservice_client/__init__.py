"""Call services by name, as easily as httpx."""

from __future__ import annotations

from .addresses import DnsAddresses, FirstSource, StaticAddresses
from .call import CallOptions
from .client import AsyncServiceClient
from .connections import ConnectionLayer
from .declarative import service_call, service_client
from .discovery import DiscoverySnapshot, InstanceSource
from .errors import (
    AnswerFormatError,
    Attempt,
    BodyBrokenError,
    CallFailedError,
    CallRejectedError,
    CallStatusError,
    CallTimeoutError,
    ClientClosedError,
    DeclarationError,
    NoInstanceCallError,
    ServiceCallError,
)
from .fallbacks import FallbackAnswer
from .filters import enabled, labels, version_range
from .interceptors import Interceptor, RequestInterceptor, SendAgain
from .messages import MessageTooLongError, ServerSentEvent, aiter_events, aiter_json_lines
from .options import ClientOptions
from .parameters import Body, Header, Path, Query
from .policy import ServicePolicy, TlsConfig
from .policy_config import Policies, follow_policies, policies_of
from .problem import ProblemDocument
from .recent_calls import CallRecord
from .requests import RequestOptions
from .shipped_interceptors import (
    CallLog,
    ErrorMapping,
    HeaderForwarding,
    ResponseTransform,
    TraceContextForwarding,
    UserInfoForwarding,
    inbound_headers,
)
from .sync_client import ServiceClient
from .transport import AsyncServiceTransport, ServiceTransport

__all__ = (
    "AnswerFormatError",
    "AsyncServiceClient",
    "AsyncServiceTransport",
    "Attempt",
    "Body",
    "BodyBrokenError",
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
    "DiscoverySnapshot",
    "DnsAddresses",
    "ErrorMapping",
    "FallbackAnswer",
    "FirstSource",
    "Header",
    "HeaderForwarding",
    "InstanceSource",
    "Interceptor",
    "MessageTooLongError",
    "NoInstanceCallError",
    "Path",
    "Policies",
    "ProblemDocument",
    "Query",
    "RequestInterceptor",
    "RequestOptions",
    "ResponseTransform",
    "SendAgain",
    "ServerSentEvent",
    "ServiceCallError",
    "ServiceClient",
    "ServicePolicy",
    "ServiceTransport",
    "StaticAddresses",
    "TlsConfig",
    "TraceContextForwarding",
    "UserInfoForwarding",
    "aiter_events",
    "aiter_json_lines",
    "enabled",
    "follow_policies",
    "inbound_headers",
    "labels",
    "policies_of",
    "service_call",
    "service_client",
    "version_range",
)
