"""The instance document that a client registers, validated field by field.

The wire form is written down in docs/lite-registry/wire-format.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from .errors import Problem
from .response import encode_json

__all__ = ("Instance", "ServiceKey", "parse_instance", "validate_instance_id", "validate_name")

_DEFAULT_TTL_SECONDS = 15.0
_MIN_TTL_SECONDS = 1.0
_MAX_TTL_SECONDS = 3600.0
_MAX_METADATA_PAIRS = 64
_MAX_METADATA_CHARACTERS = 4096

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

_NAME = re.compile(r"[^\W_][\w.:@+~-]{0,127}")
_INSTANCE_ID = re.compile(r"[^\x00-\x20\x7f/\\?]{1,256}")


class ServiceKey(NamedTuple):
    """Identifies a service: its name within a group of a namespace, each empty by default."""

    name: str
    group: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy of a service, as its client registered it.

    Attributes:
        ttl_seconds: how long it stays registered after each renewal; one that is not `ephemeral`
            stays until it is deregistered.
        etag: a hash of all other fields, the same on every replica.
    """

    id: str
    ip: str
    port: int
    weight: float = 1.0
    healthy: bool = True
    enabled: bool = True
    ephemeral: bool = True
    cluster: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    ttl_seconds: float = _DEFAULT_TTL_SECONDS
    etag: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(encode_json(self.to_document())).hexdigest()[:16]
        object.__setattr__(self, "etag", digest)

    def to_document(self) -> dict[str, object]:
        """The JSON document of the instance, without its etag."""
        return {
            "id": self.id,
            "ip": self.ip,
            "port": self.port,
            "weight": self.weight,
            "healthy": self.healthy,
            "enabled": self.enabled,
            "ephemeral": self.ephemeral,
            "cluster": self.cluster,
            "metadata": dict(self.metadata),
            "ttl_seconds": self.ttl_seconds,
        }


def validate_name(field_name: str, value: str) -> str:
    """The name of a service, group or namespace, if it is legal.

    Raises:
        Problem: 400 with the rule when it is not.
    """
    if not _NAME.fullmatch(value):
        raise _build_invalid(
            field_name, value, "1 to 128 letters, digits and . _ : @ + ~ -, a letter or digit first"
        )
    return value


def validate_instance_id(value: str) -> str:
    """The id of an instance, if it is legal.

    Raises:
        Problem: 400 with the rule when it is not.
    """
    if not _INSTANCE_ID.fullmatch(value) or value in {".", ".."}:
        raise _build_invalid("instance id", value, "1 to 256 characters without spaces, / \\ or ?")
    return value


def parse_instance(instance_id: str, body: bytes) -> Instance:
    """The instance from the JSON document that a client sent for that id.

    Raises:
        Problem: 400 with the field, its value and the rule it breaks.
    """
    # Fields that are not known are ignored, so that a newer client can register here, and so that
    # what this server sent (an `etag`) can be sent back.
    fields = _parse_object(body)
    if fields.get("id", instance_id) != instance_id:
        raise _build_invalid("id", fields["id"], f"the id in the path, {instance_id!r}")
    return Instance(
        id=instance_id,
        ip=_read_text(fields, "ip", max_length=255, required=True),
        port=_read_port(fields),
        weight=_read_number(fields, "weight", 1.0, 0.0, 1e6),
        healthy=_read_flag(fields, "healthy"),
        enabled=_read_flag(fields, "enabled"),
        ephemeral=_read_flag(fields, "ephemeral"),
        cluster=_read_text(fields, "cluster", max_length=128),
        metadata=_read_metadata(fields),
        ttl_seconds=_read_number(
            fields, "ttl_seconds", _DEFAULT_TTL_SECONDS, _MIN_TTL_SECONDS, _MAX_TTL_SECONDS
        ),
    )


def _parse_object(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "Invalid JSON", f"{error}; send one JSON object") from None
    if not isinstance(fields, dict):
        raise Problem(400, "Invalid JSON", "the body is not an object; send one JSON object")
    return cast(dict[str, object], fields)


def _read_text(
    fields: dict[str, object], name: str, *, max_length: int, required: bool = False
) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > max_length or not (value or not required):
        raise _build_invalid(name, value, f"a text of {int(required)} to {max_length} characters")
    if not value.isprintable() or " " in value:
        raise _build_invalid(name, value, "a text without spaces and control characters")
    return value


def _read_port(fields: dict[str, object]) -> int:
    value = fields.get("port")
    # JSON has one kind of number: 8000.0 is the integer 8000.
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 65535:
        raise _build_invalid("port", value, "a whole number from 0 to 65535")
    return number


def _read_number(
    fields: dict[str, object], name: str, default: float, lowest: float, highest: float
) -> float:
    value = fields.get(name, default)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not lowest <= value <= highest  # which is false for a NaN
    ):
        raise _build_invalid(name, value, f"a number from {lowest:g} to {highest:g}")
    return float(value)


def _read_flag(fields: dict[str, object], name: str) -> bool:
    value = fields.get(name, True)
    if not isinstance(value, bool):
        raise _build_invalid(name, value, "true or false")
    return value


def _read_metadata(fields: dict[str, object]) -> dict[str, str]:
    value = fields.get("metadata", {})
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _build_invalid("metadata", value, "an object whose values are texts")
    if len(value) > _MAX_METADATA_PAIRS or sum(map(len, [*value, *value.values()])) > (
        _MAX_METADATA_CHARACTERS
    ):
        rule = f"at most {_MAX_METADATA_PAIRS} pairs and {_MAX_METADATA_CHARACTERS} characters"
        raise _build_invalid("metadata", f"{len(value)} pairs", rule)
    if not _is_encodable(value):
        raise _build_invalid("metadata", value, "texts without half a surrogate pair")
    return cast(dict[str, str], value)


def _is_encodable(texts: dict[str, str]) -> bool:
    try:
        "".join([*texts, *texts.values()]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _build_invalid(field_name: str, value: object, rule: str) -> Problem:
    text = _SHORT.repr(value)  # nested values in it are cut, so that it needs little stack
    text = text if len(text) <= 80 else text[:77] + "..."
    return Problem(
        400,
        "Invalid value",
        f"{field_name} must be {rule}, not {text}; correct it and send again",
        extra={"field": field_name},
    )
