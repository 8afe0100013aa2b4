"""Parses YAML, JSON, TOML and properties documents into plain data."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from microservice_core import ConfigResult, MissingDependencyError, content_type_of
from microservice_kit.errors import InvalidConfigError

from .data import Data, deep_merge

if TYPE_CHECKING:
    import yaml

__all__ = ("parse",)

_MAX_DEPTH = 64
_MAX_VALUES = 100_000


def parse(document: ConfigResult) -> Data:
    """Parse a YAML, JSON, TOML or properties document; an empty one or a text gives no data.

    A document of content type `text` is parsed by the ending of its name, if that names a format.

    Raises:
        InvalidConfigError: it cannot be parsed, its top level is no mapping, it is nested more
            than 64 levels deep, or it is YAML whose aliases expand to more than 100,000 values.
        MissingDependencyError: it is YAML and PyYAML is not installed.
    """
    kind = document.content_type
    if kind == "text":
        kind = content_type_of(document.data_id)
    if kind == "text" or not document.content.strip():
        return {}
    parser = _PARSERS.get(kind)
    if parser is None:
        kinds = ", ".join(sorted((*_PARSERS, "text")))
        raise InvalidConfigError(document.data_id, f"content type {kind!r} is none of {kinds}")
    data = _run_parser(parser, document)
    if not isinstance(data, dict):
        problem = f"its top level is a {type(data).__name__}, it must be a mapping"
        raise InvalidConfigError(document.data_id, problem)
    return data


def _run_parser(parser: Callable[[str, str], object], document: ConfigResult) -> object:
    try:
        data = parser(document.data_id, document.content)
        if _is_shallow(data):
            return data
    except InvalidConfigError:
        raise
    except RecursionError:
        pass
    except ValueError:  # whose message would show the value
        problem = "a date or a number in it cannot be read"
        raise InvalidConfigError(document.data_id, problem) from None
    raise InvalidConfigError(document.data_id, f"nested more than {_MAX_DEPTH} levels deep")


def _is_shallow(data: object) -> bool:
    """Whether it can be walked recursively: level by level here, which needs no stack."""
    level = [data]
    for _ in range(_MAX_DEPTH):
        level = [child for parent in level for child in _iter_children(parent)]
        if not level:
            return True
    return False


def _iter_children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _parse_yaml(data_id: str, content: str) -> object:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(f"reading {data_id}", "microservice-kit[yaml]") from error
    try:
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if node is None:
            return {}
        # Counted on the nodes, before a value is built: a few lines of aliases of aliases expand to
        # more values than fit into memory ("billion laughs").
        if _count_values(node, {}) > _MAX_VALUES:
            problem = f"its aliases expand to more than {_MAX_VALUES} values"
            raise InvalidConfigError(data_id, problem)
        return loader.construct_document(node) or {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = f"not valid YAML{place} ({error.problem or error.context})"
        raise InvalidConfigError(data_id, problem) from error
    except yaml.YAMLError as error:
        raise InvalidConfigError(data_id, "not valid YAML (unreadable characters)") from error


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count the values that the node expands to; an alias counts as all that it refers to.

    Args:
        counts: the results so far, by the node's `id`.
    """
    if id(node) not in counts:
        # Found again below itself, the node is an alias of itself: endless, so above any limit.
        counts[id(node)] = _MAX_VALUES + 1
        children: list[yaml.Node] = []
        if isinstance(node.value, list):
            for part in node.value:
                children += part if isinstance(part, tuple) else (part,)
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in children)
    return counts[id(node)]


def _parse_json(data_id: str, content: str) -> object:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        place = f"in line {error.lineno}, column {error.colno} ({error.msg})"
        raise InvalidConfigError(data_id, f"not valid JSON {place}") from error


def _parse_toml(data_id: str, content: str) -> object:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfigError(data_id, f"not valid TOML ({error})") from error


def _parse_properties(data_id: str, content: str) -> object:
    data: Data = {}
    for number, line in enumerate(content.splitlines(), start=1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise InvalidConfigError(data_id, f"line {number} is not `key = value`")
        data = deep_merge(data, _nest(key.strip().split("."), value.strip()))
    return data


def _nest(path: list[str], value: object) -> Data:
    return {path[0]: _nest(path[1:], value) if len(path) > 1 else value}


_PARSERS: dict[str, Callable[[str, str], object]] = {
    "yaml": _parse_yaml,
    "json": _parse_json,
    "toml": _parse_toml,
    "properties": _parse_properties,
}
