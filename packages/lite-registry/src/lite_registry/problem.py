"""Problem documents: RFC 9457, `application/problem+json`."""

from __future__ import annotations

from .errors import Problem
from .response import Response, json_bytes

__all__ = ("problem_response",)


def problem_response(problem: Problem) -> Response:
    """The problem as a response."""
    document = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.extra,
    }
    body = json_bytes(document)
    return Response(problem.status, body, "application/problem+json", problem.headers)
