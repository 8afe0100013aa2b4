"""Documents that people write, in YAML, JSON, TOML or properties: bounded, and with one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from microservice_core.errors import DocumentError

from .bounds import MAX_BYTES, MAX_VALUES, Document
from .json_reader import read_json
from .properties_reader import read_properties
from .toml_reader import read_toml
from .yaml_reader import read_yaml

__all__ = ("DocumentError", "DocumentFormat", "parse_document")

DocumentFormat = Literal["yaml", "json", "toml", "properties"]

_READERS: dict[str, Callable[[Document], object]] = {
    "yaml": read_yaml,
    "json": read_json,
    "toml": read_toml,
    "properties": read_properties,
}


def parse_document(
    content: bytes | str,
    *,
    document_format: DocumentFormat,
    name: str,
    max_bytes: int = MAX_BYTES,
    max_values: int = MAX_VALUES,
) -> object:
    """The plain data of a document: mappings whose keys are texts, lists, texts, numbers, ...

    The size of a document is bounded, in bytes and in values, so that neither a mistake nor malice
    stops the process: 64 levels of nesting, 1,024 characters in a key, 100 digits in a number. An
    alias of YAML counts as all the values that it stands for.

    YAML is read by the core schema of YAML 1.2: only `true`, `false`, `null` and numbers are not
    texts. `on`, `yes`, `1:30` and a date stay what the writer wrote, and so does a key such as
    `8080`. A tag other than those of the core schema is refused. Of YAML 1.1, the merge key `<<`
    works. A text that has no value is None.

    TOML gives its own dates and times. JSON has no `NaN` and no `Infinity`. Properties are lines of
    `key = value`; dots in the key make nested mappings, and every value is a text.

    Source: YAML 1.2.2, section 10.3; RFC 8259; TOML 1.0.

    Args:
        content: the document; bytes are UTF-8.
        name: what the error calls the document, such as the path of its file.
        max_values: the most keys and values, together.

    Raises:
        DocumentError: the document is not of that format, or exceeds a bound. The error has the
            name, the line where it is known, and the rule, but nothing that the document holds.
        ImportError: the format is YAML and PyYAML is not installed.
    """
    document = Document(name, _decode(content, name, max_bytes), max_values)
    try:
        return _READERS[document_format](document)
    except (DocumentError, ImportError):
        raise
    except Exception:  # noqa: BLE001 - what else a parser raises on a document is not written down
        # Without the cause: a parser's own message quotes the document.
        raise document.build_error(f"must be {document_format.upper()} that can be read") from None


def _decode(content: bytes | str, name: str, max_bytes: int) -> str:
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    if len(content) > max_bytes:
        raise DocumentError(name, f"must have at most {max_bytes} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError(name, "must be UTF-8", line) from None
