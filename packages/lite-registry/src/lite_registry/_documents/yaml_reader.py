# Copied from packages/microservice-core/src/microservice_core/_documents/yaml_reader.py by scripts/copy_shared.py: change it there.
"""YAML: data is built from the events of PyYAML's parser, so that every bound is checked on the way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .bounds import Document
from .yaml_scalars import CORE, UNKNOWN_TAG, resolve_scalar

if TYPE_CHECKING:
    import yaml

__all__ = ("read_yaml",)

_UNKNOWN_ALIAS = "must have aliases of anchors before them only"
_MERGE = object()  # the plain key `<<`: a quoted one is a key like any other
# What of a parser's message may be shown: nothing that quotes more than a punctuation mark.
_PLAIN_REASON = re.compile(r"(?:[\w \-<>]|'[^\w\s]')+")


def read_yaml(document: Document) -> object:
    """The data of a YAML document; None when it is empty.

    Raises:
        DocumentError: it is not one YAML document, or exceeds a bound.
        ImportError: PyYAML is not installed.
    """
    import yaml

    builder = _Builder(document)
    try:
        for event in yaml.parse(document.text, Loader=yaml.SafeLoader):
            builder.add(event)
    except yaml.MarkedYAMLError as error:
        raise _build_error(document, error) from None
    except yaml.reader.ReaderError as error:
        line = document.find_line(error.position)
        raise document.build_error("must have no control characters", line=line) from None
    return builder.root


def _build_error(document: Document, error: yaml.MarkedYAMLError) -> Exception:
    mark = error.problem_mark or error.context_mark
    reason = (error.problem or "").partition(", but ")[0].partition(" but found")[0]
    rule = f"must be YAML ({reason})" if _PLAIN_REASON.fullmatch(reason) else "must be YAML"
    return document.build_error(rule, line=mark.line + 1 if mark else None)


class _Node:
    """A value, with the numbers of values and levels it stands for; a collection until its end."""

    __slots__ = ("anchor", "key", "levels", "merged", "value", "values")

    def __init__(self, value: Any, *, anchor: str | None = None, levels: int = 0) -> None:
        self.value = value
        self.values = 1
        self.levels = levels
        self.anchor = anchor
        self.key: object = None  # of a mapping: the key whose value comes next
        self.merged: list[object] = []

    @property
    def awaits_key(self) -> bool:
        """Whether it is a mapping, and its next node is a key."""
        return isinstance(self.value, dict) and self.key is None


class _Builder:
    """Puts the events of one document together.

    Attributes:
        root: the data of the document.
    """

    def __init__(self, document: Document) -> None:
        self.root: object = None
        self._document = document
        self._documents = 0
        self._values = 0
        self._open: list[_Node] = []
        self._anchors: dict[str, _Node | None] = {}  # None = the node has not ended

    def add(self, event: Any) -> None:
        """Take the next event."""
        line = event.start_mark.line + 1
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._add_scalar(event, line)
        elif kind == "AliasEvent":
            self._add_alias(event.anchor, line)
        elif kind in {"MappingStartEvent", "SequenceStartEvent"}:
            self._begin(event, line, {} if kind == "MappingStartEvent" else [])
        elif kind in {"MappingEndEvent", "SequenceEndEvent"}:
            self._end(line)
        elif kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise self._document.build_error("must be one YAML document", line=line)

    def _add_scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if self._open and self._open[-1].awaits_key:
            self._add_key(event, line)
            return
        plain = event.tag is None and event.style is None
        value = resolve_scalar(self._document, event.value, event.tag, line, plain=plain)
        node = _Node(value)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node, line)

    def _add_key(self, event: yaml.ScalarEvent, line: int) -> None:
        self._document.check_key(event.value, line)
        if event.tag not in {None, "!", f"{CORE}str"}:
            raise self._document.build_error("must have no tags at keys", line=line)
        mapping = self._open[-1]
        merges = event.value == "<<" and event.style is None and event.tag is None
        mapping.key = _MERGE if merges else event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = _Node(event.value)
        self._count(1, line)

    def _add_alias(self, anchor: str, line: int) -> None:
        node = self._anchors.get(anchor)
        if node is None:
            inside = anchor in self._anchors
            rule = "must have no alias of a value within itself" if inside else _UNKNOWN_ALIAS
            raise self._document.build_error(rule, line=line)
        self._attach(node, line)

    def _begin(self, event: yaml.CollectionStartEvent, line: int, value: object) -> None:
        tag = CORE + ("map" if isinstance(value, dict) else "seq")
        if event.tag not in {None, "!", tag}:
            raise self._document.build_error(UNKNOWN_TAG, line=line)
        if self._open and self._open[-1].awaits_key:
            raise self._document.build_error("must have keys that are texts", line=line)
        self._open.append(_Node(value, anchor=event.anchor, levels=1))
        self._document.check_depth(len(self._open), line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None

    def _end(self, line: int) -> None:
        node = self._open.pop()
        for merged in node.merged:
            self._merge(node.value, merged, line)
        if node.anchor is not None:
            self._anchors[node.anchor] = node
        # Its content has been counted; only it has not.
        self._values -= node.values - 1
        self._attach(node, line)

    def _merge(self, target: dict[str, object], source: object, line: int) -> None:
        mappings = source if isinstance(source, list) else [source]
        for mapping in mappings:
            if not isinstance(mapping, dict):
                rule = "must merge by `<<` a mapping or a list of mappings"
                raise self._document.build_error(rule, line=line)
            for key, value in mapping.items():
                target.setdefault(key, value)

    def _attach(self, node: _Node, line: int) -> None:
        """Put a complete node into the collection around it."""
        self._count(node.values, line)
        if not self._open:
            self.root = node.value
            return
        parent = self._open[-1]
        self._document.check_depth(len(self._open) + node.levels, line)
        parent.levels = max(parent.levels, node.levels + 1)
        if isinstance(parent.value, list):
            parent.value.append(node.value)
        elif parent.key is None:
            raise self._document.build_error("must have keys that are no aliases", line=line)
        elif parent.key is _MERGE:
            parent.merged.append(node.value)
        else:
            parent.value[parent.key] = node.value
        parent.key = None

    def _count(self, values: int, line: int) -> None:
        self._values += values
        if self._open:
            self._open[-1].values += values
        self._document.check_count(self._values, line)
