"""Text documents into plain data, and several of them into one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from microservice_core import ConfigResult, MissingDependencyError, content_type_of
from microservice_kit.errors import InvalidConfigError

if TYPE_CHECKING:
    import yaml

__all__ = ("deep_merge", "parse")

Data = dict[str, object]

DEEPEST = 64
MOST_VALUES = 100_000


def parse(document: ConfigResult) -> Data:
    """The data a YAML, JSON, TOML or properties document holds; empty for an empty one or a text.

    A document whose type says nothing (`text`) is read by its name's ending.

    Raises:
        InvalidConfigError: it cannot be parsed, holds no mapping at its top, is nested more than 64
            levels deep, or is YAML whose aliases stand for more than 100,000 values.
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
    data = _parsed(parser, document)
    if not isinstance(data, dict):
        problem = f"its top is a {type(data).__name__}, it has to be a mapping"
        raise InvalidConfigError(document.data_id, problem)
    return data


def _parsed(parser: Callable[[str, str], object], document: ConfigResult) -> object:
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
    raise InvalidConfigError(document.data_id, f"nested more than {DEEPEST} levels deep")


def _is_shallow(data: object) -> bool:
    level = [data]
    for _ in range(DEEPEST):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return True
    return False


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def deep_merge(low: Mapping[str, object], high: Mapping[str, object]) -> Data:
    """Both; where both have a mapping they are merged, anywhere else `high` wins whole.

    A list replaces a list, an empty mapping adds nothing, and a None of `high` is a value like any
    other: it wins.
    """
    merged: Data = dict(low)
    for key, value in high.items():
        present = merged.get(key)
        if isinstance(present, Mapping) and isinstance(value, Mapping):
            merged[key] = deep_merge(present, value)
        else:
            merged[key] = value
    return merged


def _yaml(data_id: str, content: str) -> object:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(f"reading {data_id}", "microservice-kit[yaml]") from error
    try:
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if node is None:
            return {}
        if _values_of(node, {}) > MOST_VALUES:
            problem = f"with its aliases it stands for more than {MOST_VALUES} values"
            raise InvalidConfigError(data_id, problem)
        return loader.construct_document(node) or {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = f"not valid YAML{where} ({error.problem or error.context})"
        raise InvalidConfigError(data_id, problem) from error
    except yaml.YAMLError as error:
        raise InvalidConfigError(data_id, "not valid YAML (unreadable characters)") from error


def _values_of(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values are built of the node, an alias counted as all it stands for."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # what an alias of itself, within itself, stands for
        below: list[yaml.Node] = []
        if isinstance(node.value, list):
            for part in node.value:
                below += part if isinstance(part, tuple) else (part,)
        known[id(node)] = 1 + sum(_values_of(each, known) for each in below)
    return known[id(node)]


def _json(data_id: str, content: str) -> object:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        where = f"in line {error.lineno}, column {error.colno} ({error.msg})"
        raise InvalidConfigError(data_id, f"not valid JSON {where}") from error


def _toml(data_id: str, content: str) -> object:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfigError(data_id, f"not valid TOML ({error})") from error


def _properties(data_id: str, content: str) -> object:
    data: Data = {}
    for number, line in enumerate(content.splitlines(), start=1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise InvalidConfigError(data_id, f"line {number} is not `key = value`")
        data = deep_merge(data, _nested(key.strip().split("."), value.strip()))
    return data


def _nested(path: list[str], value: object) -> Data:
    return {path[0]: _nested(path[1:], value) if len(path) > 1 else value}


_PARSERS: dict[str, Callable[[str, str], object]] = {
    "yaml": _yaml,
    "json": _json,
    "toml": _toml,
    "properties": _properties,
}
