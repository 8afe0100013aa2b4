"""The output of the command: tables and diffs for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

__all__ = ("Screen",)


class Screen:
    """Prints tables, diffs and lines; with `as_json` one JSON document per line instead."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)

    def print_line(self, text: str) -> None:
        """Print a sentence for people; nothing in JSON mode."""
        if not self.as_json:
            self._console.print(text, markup=False)

    def print_content(self, content: str) -> None:
        """Print a document as it is, so that it can be piped."""
        self._console.out(content, end="" if content.endswith("\n") else "\n", highlight=False)

    def print_value(self, value: object) -> None:
        """Print the attributes of one value, or its JSON."""
        if self.as_json:
            self._console.out(
                json.dumps(_to_json_value(value), ensure_ascii=False), highlight=False
            )
        else:
            for name, each in _to_json_value(value).items():
                self._console.print(f"{name}: {each}", markup=False)

    def print_table(self, columns: Sequence[str], values: Iterable[object]) -> None:
        """Print values as rows; the columns are names of their attributes."""
        if self.as_json:
            for each in values:
                self.print_value(each)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.replace("_", " "))
        for each in values:
            table.add_row(*(_format_cell(getattr(each, column)) for column in columns))
        self._console.print(table)

    def print_diff(self, before: str, after: str, *, names: tuple[str, str]) -> bool:
        """Print a coloured diff; returns whether there is any difference."""
        lines = difflib.unified_diff(
            before.splitlines(), after.splitlines(), *names, lineterm="", n=3
        )
        text = "\n".join(lines)
        if self.as_json:
            self.print_value({"changed": bool(text), "diff": text})
        elif text:
            self._console.print(Syntax(text, "diff", background_color="default"))
        return bool(text)


def _format_cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _to_json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: _to_json_value(getattr(value, each.name))
            for each in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): _to_json_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json_value(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value
