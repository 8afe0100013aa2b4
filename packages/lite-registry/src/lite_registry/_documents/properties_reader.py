# Copied from packages/microservice-core/src/microservice_core/_documents/properties_reader.py by scripts/copy_shared.py: change it there.
"""Properties: lines of `key = value`, where dots in the key make nested mappings."""

from __future__ import annotations

from .bounds import Document

__all__ = ("read_properties",)


def read_properties(document: Document) -> object:
    """The data of a properties document.

    Raises:
        DocumentError: a line is no property, or a bound is exceeded.
    """
    data: dict[str, object] = {}
    values = 0
    for line, text in enumerate(document.text.split("\n"), start=1):
        entry = text.strip()
        if not entry or entry[0] in "#!":
            continue
        key, separator, value = entry.partition("=")
        path = key.strip().split(".")
        if not separator or not all(path):
            raise document.build_error("must have lines of `key = value`", line=line)
        document.check_text(value, line)
        document.check_depth(len(path), line)
        values += 1 + len(path)
        document.check_count(values, line)
        _set(document, data, path, value.strip(), line)
    return data


def _set(
    document: Document, data: dict[str, object], path: list[str], value: str, line: int
) -> None:
    for part in path[:-1]:
        document.check_key(part, line)
        child = data.setdefault(part, {})
        if not isinstance(child, dict):
            raise document.build_error("must give a key either a value or parts", line=line)
        data = child
    document.check_key(path[-1], line)
    if isinstance(data.get(path[-1]), dict):
        raise document.build_error("must give a key either a value or parts", line=line)
    data[path[-1]] = value
