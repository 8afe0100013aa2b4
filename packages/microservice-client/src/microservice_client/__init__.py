"""Call services by name, as easily as httpx."""

from __future__ import annotations

from .calling.call import CallOptions
from .calling.fallbacks import FallbackAnswer
from .calling.recent_calls import CallRecord
from .client import AsyncServiceClient
from .declarative.decorators import service_call, service_client
from .declarative.parameters import Body, Header, Path, Query
from .discovery.addresses import DnsAddresses, FirstSource, StaticAddresses
from .discovery.filters import enabled, labels, version_range
from .discovery.instance_cache import InstanceCache, InstanceSource
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
from .interceptors.chain import Interceptor, RequestInterceptor, SendAgain
from .options import ClientOptions
from .policies import Policies, follow_policies, policies_of
from .policy import ServicePolicy, TlsConfig
from .problem import ProblemDocument
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
    "DnsAddresses",
    "ErrorMapping",
    "FallbackAnswer",
    "FirstSource",
    "Header",
    "HeaderForwarding",
    "InstanceCache",
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
