"""Parses YAML, JSON, TOML and properties documents into plain data."""

from __future__ import annotations

from typing import cast, get_args

from microservice_core import (
    ConfigResult,
    DocumentError,
    DocumentFormat,
    MissingDependencyError,
    content_type_of,
    parse_document,
)
from microservice_kit.errors import InvalidConfigError

from .data import Data

__all__ = ("parse",)

_FORMATS = get_args(DocumentFormat)


def parse(document: ConfigResult) -> Data:
    """Parse a YAML, JSON, TOML or properties document; an empty one or a text gives no data.

    A document of content type `text` is parsed by the ending of its name, if that names a format.
    What a document may hold is bounded: see `microservice_core.parse_document`.

    Raises:
        InvalidConfigError: it cannot be parsed, its top level is no mapping, or it exceeds a bound.
            The error names line and rule, and no value of the document.
        MissingDependencyError: it is YAML and PyYAML is not installed.
    """
    kind = document.content_type
    if kind == "text":
        kind = content_type_of(document.data_id)
    if kind == "text" or not document.content.strip():
        return {}
    if kind not in _FORMATS:
        kinds = ", ".join(sorted((*_FORMATS, "text")))
        raise InvalidConfigError(document.data_id, f"content type {kind!r} is none of {kinds}")
    data = _read(document, cast(DocumentFormat, kind))
    if data is None:  # only comments
        return {}
    if not isinstance(data, dict):
        problem = f"its top level is a {type(data).__name__}, it must be a mapping"
        raise InvalidConfigError(document.data_id, problem)
    return data


def _read(document: ConfigResult, document_format: DocumentFormat) -> object:
    name = document.data_id
    try:
        return parse_document(document.content, document_format=document_format, name=name)
    except DocumentError as error:
        place = "" if error.line is None else f"in line {error.line} "
        raise InvalidConfigError(name, f"{place}it {error.rule}") from None
    except ImportError as error:
        raise MissingDependencyError(f"reading {name}", "microservice-kit[yaml]") from error
