"""Nacos 3 over HTTP: configuration, naming and administration, sync and async."""

from ._async.client import AsyncNacosClient
from ._sync.client import NacosClient
from .credentials import AccessKeyCredentials, CredentialProvider, SignableRequest
from .errors import (
    AnswerError,
    AuthenticationError,
    CipherError,
    ClientClosedError,
    ConfigNotFound,
    ConflictError,
    DeadlineExceededError,
    InstanceNotFound,
    InvalidArgumentError,
    MissingDependencyError,
    NacosError,
    NoInstanceError,
    NotFoundError,
    PermissionDeniedError,
    RequestRejectedError,
    ServerError,
    ServerUnavailableError,
    SnapshotError,
    UnexpectedAnswerError,
)
from .models import BeatStatus, Config, ConfigDeleted, Instance, InstanceList, Registration
from .settings import ClientOptions, Settings

__all__ = (
    "AccessKeyCredentials",
    "AnswerError",
    "AsyncNacosClient",
    "AuthenticationError",
    "BeatStatus",
    "CipherError",
    "ClientClosedError",
    "ClientOptions",
    "Config",
    "ConfigDeleted",
    "ConfigNotFound",
    "ConflictError",
    "CredentialProvider",
    "DeadlineExceededError",
    "Instance",
    "InstanceList",
    "InstanceNotFound",
    "InvalidArgumentError",
    "MissingDependencyError",
    "NacosClient",
    "NacosError",
    "NoInstanceError",
    "NotFoundError",
    "PermissionDeniedError",
    "Registration",
    "RequestRejectedError",
    "ServerError",
    "ServerUnavailableError",
    "Settings",
    "SignableRequest",
    "SnapshotError",
    "UnexpectedAnswerError",
)
