"""The table of resources: which function handles which method at which path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .errors import Problem
from .request import Outcome, Request
from .request_parsing import Query
from .response import Response

__all__ = ("Resource", "ResourceTable", "respond_to_options")

Handle = Callable[[Request, Query, Sequence[str]], Outcome]
"""Called with the request, its query and the variable parts of its path."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One path, perhaps with variable parts like `{service}`, and its handlers by method.

    A handler for GET handles HEAD, too, and OPTIONS needs none.
    """

    template: str
    handlers: Mapping[str, Handle]
    length: int = field(init=False)
    _literals: tuple[tuple[int, str], ...] = field(init=False)
    _variables: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        segments = list(enumerate(self.template.split("/")[1:]))
        is_variable = [segment.startswith("{") for _, segment in segments]
        literals = [
            each for each, variable in zip(segments, is_variable, strict=True) if not variable
        ]
        object.__setattr__(self, "length", len(segments))
        object.__setattr__(self, "_literals", tuple(literals))
        object.__setattr__(self, "_variables", tuple(i for i, _ in segments if is_variable[i]))

    def match(self, segments: Sequence[str]) -> list[str] | None:
        """The variable parts of a path of this length; None when it is another one."""
        for index, literal in self._literals:
            if segments[index] != literal:
                return None
        return [segments[index] for index in self._variables]

    def get_handler(self, method: str) -> Handle:
        """The handler of the method.

        Raises:
            Problem: 405 when there is none.
        """
        if method == "OPTIONS":
            return lambda *_: respond_to_options(self.handlers)
        handler = self.handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            raise _build_not_allowed(_list_methods(self.handlers))
        return handler


class ResourceTable:
    """Finds the resource of a path."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._by_length: dict[int, list[Resource]] = defaultdict(list)
        self.methods: dict[str, None] = {}
        for resource in resources:
            self._by_length[resource.length].append(resource)
            self.methods.update(dict.fromkeys(resource.handlers))

    def find(self, segments: Sequence[str], method: str) -> tuple[Resource, list[str]]:
        """The resource, and the variable parts of the path.

        Raises:
            Problem: 404 when there is no such resource; 405 when the request would change it.
        """
        for resource in self._by_length.get(len(segments), ()):
            variables = resource.match(segments)
            if variables is not None:
                return resource, variables
        if method not in {"GET", "HEAD"}:
            raise _build_not_allowed("GET, HEAD")
        raise Problem(404, "Not found", "there is nothing at this path; see /openapi.json")


def respond_to_options(methods: Iterable[str]) -> Response:
    """The response to OPTIONS (RFC 9110, section 9.3.7)."""
    return Response(204, headers=(("allow", f"{_list_methods(methods)}, OPTIONS"),))


def _list_methods(methods: Iterable[str]) -> str:
    return ", ".join("GET, HEAD" if name == "GET" else name for name in methods)


def _build_not_allowed(methods: str) -> Problem:
    return Problem(
        405, "Method not allowed", f"use one of {methods}", headers=(("allow", methods),)
    )
