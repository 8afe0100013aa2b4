import pickle

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microservice_client
from microservice_client import (
    Attempt,
    BodyBrokenError,
    BodyTooLargeError,
    CallFailedError,
    CallRejectedError,
    CallStatusError,
    CallTimeoutError,
    NoInstanceCallError,
    ProblemDocument,
    ResponseFormatError,
    ServiceCallError,
)
from microservice_core import MicroserviceError, NoInstanceAvailableError

TRIED = [Attempt("10.0.0.1:80", "503", 0.012), Attempt("10.0.0.2:80", "ConnectError", 0.001)]
ANSWER = httpx.Response(503, request=httpx.Request("GET", "http://orders/"), text="busy")

ERRORS: list[ServiceCallError] = [
    NoInstanceCallError("orders", "no instances registered"),
    CallTimeoutError("orders", 1.5, TRIED),
    CallFailedError("orders", TRIED),
    CallRejectedError("orders", "bulkhead", "wait", retry_after=1.0),
    CallStatusError("orders", ANSWER, TRIED),
    BodyBrokenError("orders", TRIED),
    BodyTooLargeError("orders", 100, TRIED),
    ResponseFormatError("orders", "Order", "order_id: missing"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_names_service_attempts_and_what_to_do(error: ServiceCallError) -> None:
    assert isinstance(error, MicroserviceError)
    assert isinstance(error, httpx.TransportError)
    assert error.service == "orders"
    assert error.instance == ("10.0.0.2:80" if error.attempts else "")
    assert str(error).startswith("orders: ")
    assert str(error).endswith(error.suggestion)
    if error.attempts:
        assert "10.0.0.1:80 503 after 12 ms; 10.0.0.2:80 ConnectError after 1 ms" in str(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_survives_another_process(error: ServiceCallError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), str(again)) == (type(error), str(error))
    assert (again.service, again.attempts, again.suggestion) == (
        error.service,
        error.attempts,
        error.suggestion,
    )


def test_errors_are_httpx_errors_of_their_kind() -> None:
    assert issubclass(CallTimeoutError, httpx.TimeoutException | TimeoutError)
    assert issubclass(NoInstanceCallError, NoInstanceAvailableError)
    assert issubclass(CallStatusError, httpx.HTTPStatusError)
    assert issubclass(BodyBrokenError, httpx.ReadError)


def problem(body: object, content_type: str = "application/problem+json") -> httpx.Response:
    content = body if isinstance(body, bytes) else httpx.Response(200, json=body).content
    return httpx.Response(400, content=content, headers={"content-type": content_type})


def test_a_problem_document_is_read() -> None:
    found = ProblemDocument.from_response(
        problem(
            {
                "type": "https://example.com/probs/out-of-credit",
                "title": "You do not have enough credit.",
                "status": 403,
                "detail": "Your current balance is 30, but that costs 50.",
                "instance": "/account/12345/msgs/abc",
                "balance": 30,
            }
        )
    )
    assert found is not None
    assert (found.type, found.status) == ("https://example.com/probs/out-of-credit", 403)
    assert found.instance == "/account/12345/msgs/abc"
    assert found.extensions == {"balance": 30}
    assert str(found) == (
        "You do not have enough credit.: Your current balance is 30, but that costs 50."
    )


def test_members_of_the_wrong_kind_are_ignored() -> None:
    found = ProblemDocument.from_response(
        problem({"type": 3, "title": None, "status": "400", "detail": []})
    )
    assert found == ProblemDocument(status=400)
    assert str(found) == "about:blank"
    true = ProblemDocument.from_response(problem({"status": True}))
    assert true is not None
    assert true.status == 400


@pytest.mark.parametrize(
    "response",
    [
        problem({}, "application/json"),
        problem(b"no json"),
        problem([1]),
        problem(b"[" * 60_000),
        problem(b'"' + b"x" * 70_000 + b'"'),
        httpx.Response(400),
    ],
)
def test_what_is_no_problem_document_is_none(response: httpx.Response) -> None:
    assert ProblemDocument.from_response(response) is None


@given(st.binary(max_size=200))
def test_no_body_breaks_it(body: bytes) -> None:
    document = ProblemDocument.from_response(problem(body))
    assert document is None or document.status == 400


def test_the_public_names_are_all_there_and_sorted_by_kind() -> None:
    names = microservice_client.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(microservice_client, name) for name in names)
