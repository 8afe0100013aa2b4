"""The reference of the documentation, written from the code: settings, and public names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import UnionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ("names_page", "settings_page")

SETTINGS_ARE = (
    "Written from the models; seconds unless the name says otherwise. A setting of a service or of "
    "Nacos may come from the environment: `MICROSERVICE_` or `NACOS_` and its name in capitals."
)
_CLASS = re.compile(r"<class '([\w.]+)'>")
_ATTRIBUTE = re.compile(r"^(?P<names>[a-z_0-9]+(?:, [a-z_0-9]+)*): (?P<text>.+)$")


def settings_page(models: Mapping[str, type[BaseModel]]) -> str:
    """A table per settings model: name, default, meaning."""
    lines = ["# Settings", "", SETTINGS_ARE]
    for title, model in models.items():
        meanings = attributes_of(model)
        lines += ["", f"## {title}", "", "| setting | default | meaning |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            shown = "required" if field.is_required() else _CLASS.sub(r"\1", repr(default))
            lines.append(f"| `{name}` | `{_cell(shown)}` | {_cell(meanings.get(name, ''))} |")
    return "\n".join(lines) + "\n"


def names_page(packages: tuple[str, ...]) -> str:
    """A table per package: every public name, and the first line of what it says of itself."""
    lines = ["# Public names", "", "Written from the code; `help(name)` says more of each."]
    for package in packages:
        lines += ["", f"## `{package}`", "", "| name | |", "|---|---|"]
        module = import_module(package)
        lines += [
            f"| `{name}` | {_cell(summary_of(getattr(module, name)))} |"
            for name in sorted(module.__all__, key=str.lower)
        ]
    return "\n".join(lines) + "\n"


def attributes_of(documented: type) -> dict[str, str]:
    """The `Attributes:` of a class's docstring, by name; names before one text share it."""
    texts: dict[str, str] = {}
    for entry in _entries(inspect.getdoc(documented) or ""):
        match = _ATTRIBUTE.match(entry)
        if match is not None:
            texts |= dict.fromkeys(match["names"].split(", "), match["text"])
    return texts


def _entries(docstring: str) -> Iterator[str]:
    """The lines of the section, continuations joined to what they continue."""
    _, _, section = docstring.partition("Attributes:\n")
    entry = ""
    for line in section.splitlines():
        if line and not line.startswith("    "):
            break  # the next section
        if line.startswith("     "):
            entry += " " + line.strip()
            continue
        if entry:
            yield entry
        entry = line.strip()
    if entry:
        yield entry


def summary_of(value: object) -> str:
    """The first paragraph of the docstring; for what has none of its own, what it is."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        alias = hasattr(value, "__origin__") or isinstance(value, UnionType)
        return "a type alias" if alias else f"a {type(value).__name__}"
    documented = value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)
    first = inspect.cleandoc(documented or "").partition("\n\n")[0]
    return " ".join(first.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
