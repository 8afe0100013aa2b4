"""Read whatever a Nacos server, its servlet filters, or a proxy before it may answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

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

if TYPE_CHECKING:
    from ._steps import Answer, Request

__all__ = ("data_of", "document_of")

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
_SERVER_CODES = frozenset({10002, 23000, 30000, 500, 501, 503})
# Older servers send the bare message, newer ones put "Code: 401, Message: " before it.
_TOKEN_WORDS = (
    "code: 401",
    "token expired",
    "token invalid",
    "invalid signature",
    "user not found",
)


def data_of(request: Request, answer: Answer, server: str) -> Any:
    """The `data` of a successful answer.

    Raises:
        AnswerError: the one of its subclasses that says what happened.
    """
    document = document_of(request, answer, server)
    if not isinstance(document, dict) or not isinstance(document.get("code"), int):
        _raise(UnexpectedAnswerError, request, answer, server, "JSON without a code")
    code = document["code"]
    if code != 0 or answer.status >= 400:
        _raise_result(request, answer, server, document)
    return document.get("data")


def document_of(request: Request, answer: Answer, server: str) -> Any:
    """The JSON document of an answer that is no error by its status (login is not wrapped).

    Raises:
        AnswerError: the one of its subclasses that says what happened.
    """
    if not answer.body.strip():
        _raise_empty(request, answer, server)
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        _raise_text(request, answer, server)
    if isinstance(document, dict) and "code" not in document and "status" in document:
        _raise_spring(request, answer, server, document)
    if answer.status >= 300 and not (isinstance(document, dict) and "code" in document):
        _raise(_by_status(answer.status), request, answer, server, "")
    return document


def _raise_result(
    request: Request, answer: Answer, server: str, document: dict[str, Any]
) -> NoReturn:
    code, data = document["code"], document.get("data")
    detail = str(document.get("message") or "")
    if isinstance(data, str) and data:
        detail = f"{detail}: {data}" if detail else data
    error = _BY_CODE.get(code)
    if error is None and code in _SERVER_CODES:
        # Nacos also reports its own refusals as 30000; the status then tells them apart.
        error = RequestRejectedError if 400 <= answer.status < 500 else ServerError
    if error is NotFoundError and "/cs/config" in request.path:
        error = ConfigNotFound
    _raise(error or _by_status(answer.status), request, answer, server, detail, code=code)


def _raise_spring(
    request: Request, answer: Answer, server: str, document: dict[str, Any]
) -> NoReturn:
    message = str(document.get("message") or document.get("error") or "")
    if answer.status == 403:
        refused_token = any(word in message.lower() for word in _TOKEN_WORDS)
        error: type[AnswerError] = AuthenticationError if refused_token else PermissionDeniedError
        _raise(error, request, answer, server, message)
    if answer.status >= 500 and "no static resource" in message.lower():
        _raise(UnexpectedAnswerError, request, answer, server, message)
    _raise(_by_status(answer.status), request, answer, server, message)


def _raise_text(request: Request, answer: Answer, server: str) -> NoReturn:
    text = answer.body[:400].decode("utf-8", "replace").strip()
    lowered = text.lower()
    if lowered.startswith(("<!doctype", "<html")):
        _raise(UnexpectedAnswerError, request, answer, server, "an HTML page")
    if answer.status == 403 and any(word in lowered for word in _TOKEN_WORDS):
        _raise(AuthenticationError, request, answer, server, text)
    if answer.status < 400:
        # The content of a success is not repeated: it may be a document.
        _raise(UnexpectedAnswerError, request, answer, server, "a body that is not JSON")
    _raise(_by_status(answer.status), request, answer, server, text)


def _raise_empty(request: Request, answer: Answer, server: str) -> NoReturn:
    if answer.status < 300:
        # Nacos' auth filter logs an exception and leaves an empty 200 behind.
        _raise(ServerError, request, answer, server, "an empty body")
    _raise(_by_status(answer.status), request, answer, server, "an empty body")


def _by_status(status: int) -> type[AnswerError]:
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
    answer: Answer,
    server: str,
    detail: str,
    *,
    code: int | None = None,
) -> NoReturn:
    raise error(request.operation, status=answer.status, code=code, detail=detail, server=server)
