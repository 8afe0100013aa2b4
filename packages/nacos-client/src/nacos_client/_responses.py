"""Read the responses of a Nacos server, its servlet filters, or a proxy in front of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NoReturn

from ._steps import Request, Response, encode_parameters
from .errors import (
    AnswerError,
    AuthenticationError,
    ConfigNotFound,
    ConflictError,
    InstanceNotFound,
    NotFoundError,
    PermissionDeniedError,
    RequestRejectedError,
    ServerError,
    UnexpectedAnswerError,
)

__all__ = ("read_data", "read_document", "read_milliseconds")

_BY_CODE: dict[int, type[AnswerError]] = {
    10001: PermissionDeniedError,
    20004: NotFoundError,
    20005: ConflictError,
    21003: InstanceNotFound,
    21008: NotFoundError,
    22001: NotFoundError,
    23002: NotFoundError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
}
# From a port or context path that is not the server's API, such as the console's.
_NO_RESOURCE = "no static resource"
_PARAMETER_MISSING = 10000
# A smaller form is below any limit in use.
_MIN_LARGE_FORM_BYTES = 100_000
_SERVER_CODES = frozenset({10002, 23000, 30000, 500, 501, 503})
# Older servers send the bare message, newer ones put "Code: 401, Message: " before it.
_TOKEN_WORDS = (
    "code: 401",
    "token expired",
    "token invalid",
    "invalid signature",
    "user not found",
)


def read_data(request: Request, response: Response, server: str) -> Any:
    """The `data` of a successful response.

    Raises:
        AnswerError: the response is an error; the subclass says which.
    """
    document = read_document(request, response, server)
    if not isinstance(document, dict) or not isinstance(document.get("code"), int):
        _raise(UnexpectedAnswerError, request, response, server, "JSON without a code")
    code = document["code"]
    if code != 0 or response.status >= 400:
        _raise_result(request, response, server, document)
    return document.get("data")


def read_document(request: Request, response: Response, server: str) -> Any:
    """The JSON document of a response whose status is no error, whether it has a code or not.

    The response to a login has no code, and no `data` around its content.

    Raises:
        AnswerError: the response is an error; the subclass says which.
    """
    if response.status == 413:
        _check_form_size(request, response, server, None)
    if not response.body.strip():
        _raise_empty(request, response, server)
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        _raise_text(request, response, server)
    if isinstance(document, dict) and "code" not in document and "status" in document:
        _raise_spring(request, response, server, document)
    if response.status >= 300 and not (isinstance(document, dict) and "code" in document):
        _raise(_select_error(response.status), request, response, server, "")
    return document


def read_milliseconds(value: object) -> datetime | None:
    """A time in UTC from Nacos' milliseconds since 1970; None when there is none."""
    if not isinstance(value, int) or value <= 0:
        return None
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (OverflowError, ValueError, OSError):  # beyond the year 9999
        return None


def _raise_result(
    request: Request, response: Response, server: str, document: dict[str, Any]
) -> NoReturn:
    code, data = document["code"], document.get("data")
    detail = str(document.get("message") or "")
    if isinstance(data, str) and data:
        detail = f"{detail}: {data}" if detail else data
    if response.status == 400 and code == _PARAMETER_MISSING:
        _check_form_size(request, response, server, code)
    error = _BY_CODE.get(code)
    if error is None and code in _SERVER_CODES:
        # Nacos reports refused requests as 30000, too; only the status distinguishes them.
        error = RequestRejectedError if 400 <= response.status < 500 else ServerError
    if error is NotFoundError and "/cs/config" in request.path:
        error = ConfigNotFound
    _raise(error or _select_error(response.status), request, response, server, detail, code=code)


def _check_form_size(request: Request, response: Response, server: str, code: int | None) -> None:
    """Refuse with the true cause: a server reads nothing of a form that is above its limit."""
    if request.form is None:
        return
    size = len(encode_parameters(request.form))
    if size < _MIN_LARGE_FORM_BYTES:
        return
    detail = (
        f"a form of {size} bytes is above the server's form limit, "
        "server.tomcat.max-http-form-post-size (2 MB by default; as a multipart form, "
        "spring.servlet.multipart.max-file-size, 1 MB): shorten the content or raise the limit"
    )
    _raise(RequestRejectedError, request, response, server, detail, code=code)


def _raise_spring(
    request: Request, response: Response, server: str, document: dict[str, Any]
) -> NoReturn:
    message = str(document.get("message") or document.get("error") or "")
    if response.status == 403:
        is_token_refused = any(word in message.lower() for word in _TOKEN_WORDS)
        error: type[AnswerError] = (
            AuthenticationError if is_token_refused else PermissionDeniedError
        )
        _raise(error, request, response, server, message)
    if response.status >= 500 and _NO_RESOURCE in message.lower():
        _raise(UnexpectedAnswerError, request, response, server, message)
    _raise(_select_error(response.status), request, response, server, message)


def _raise_text(request: Request, response: Response, server: str) -> NoReturn:
    text = response.body[:400].decode("utf-8", "replace").strip()
    lowered = text.lower()
    if lowered.startswith(("<!doctype", "<html")):
        _raise(UnexpectedAnswerError, request, response, server, "an HTML page")
    if response.status >= 500 and _NO_RESOURCE in lowered:
        _raise(UnexpectedAnswerError, request, response, server, text)
    if response.status == 403 and any(word in lowered for word in _TOKEN_WORDS):
        _raise(AuthenticationError, request, response, server, text)
    if response.status < 400:
        # The body of a success is kept out of the error: it may be a document with secrets.
        _raise(UnexpectedAnswerError, request, response, server, "a body that is not JSON")
    _raise(_select_error(response.status), request, response, server, text)


def _raise_empty(request: Request, response: Response, server: str) -> NoReturn:
    if response.status < 300:
        # Nacos' auth filter logs an exception and leaves an empty 200 behind.
        _raise(ServerError, request, response, server, "an empty body")
    _raise(_select_error(response.status), request, response, server, "an empty body")


def _select_error(status: int) -> type[AnswerError]:
    if status >= 500:
        return ServerError
    if status == 403:
        return PermissionDeniedError
    if status == 401:
        return AuthenticationError
    if status in {429, 408}:
        return ServerError
    if status in {404, 410} or status < 400:
        return UnexpectedAnswerError
    return RequestRejectedError


def _raise(
    error: type[AnswerError],
    request: Request,
    response: Response,
    server: str,
    detail: str,
    *,
    code: int | None = None,
) -> NoReturn:
    raise error(request.operation, status=response.status, code=code, detail=detail, server=server)
