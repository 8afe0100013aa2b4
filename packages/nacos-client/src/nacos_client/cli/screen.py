"""What the command prints: tables and diffs for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("Screen",)


class Screen:
    """One way to print everything; `as_json` prints one JSON document per line."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)

    def line(self, words: str) -> None:
        """A sentence for people; programs do not get it."""
        if not self.as_json:
            self._console.print(words, markup=False)

    def raw(self, content: str) -> None:
        """Content as it is, to be piped on."""
        self._console.out(content, end="" if content.endswith("\n") else "\n", highlight=False)

    def value(self, value: object) -> None:
        """One thing, as JSON in either case."""
        if self.as_json:
            self._console.out(json.dumps(_plain(value), ensure_ascii=False), highlight=False)
        else:
            for name, each in _plain(value).items():
                self._console.print(f"{name}: {each}", markup=False)

    def table(self, columns: Sequence[str], things: Iterable[object]) -> None:
        """Things as rows; the columns are names of their attributes."""
        if self.as_json:
            for each in things:
                self.value(each)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.replace("_", " "))
        for each in things:
            table.add_row(*(_cell(getattr(each, column)) for column in columns))
        self._console.print(table)

    def diff(self, before: str, after: str, *, names: tuple[str, str]) -> bool:
        """A coloured diff; whether there was any difference."""
        lines = difflib.unified_diff(
            before.splitlines(), after.splitlines(), *names, lineterm="", n=3
        )
        text = "\n".join(lines)
        if self.as_json:
            self.value({"changed": bool(text), "diff": text})
        elif text:
            self._console.print(Syntax(text, "diff", background_color="default"))
        return bool(text)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value
