"""The instance document: what a client registers, checked field by field.

The wire form is written down in docs/lite-registry/wire-format.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from .errors import Problem
from .response import json_bytes

__all__ = ("Instance", "ServiceKey", "check_instance_id", "check_name", "parse_instance")

DEFAULT_TTL_SECONDS = 15.0
SHORTEST_TTL_SECONDS = 1.0
LONGEST_TTL_SECONDS = 3600.0
METADATA_PAIRS = 64
METADATA_CHARACTERS = 4096

_NAME = re.compile(r"[^\W_][\w.:@+~-]{0,127}")
_INSTANCE_ID = re.compile(r"[^\x00-\x20\x7f/\\?]{1,256}")


class ServiceKey(NamedTuple):
    """Which service: its name within a group of a namespace; empty = the default one."""

    name: str
    group: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """What a client says of one running copy of a service.

    Attributes:
        ttl_seconds: how long it lives after each renewal; a lasting one (`ephemeral` false)
            stays until it is deregistered.
        etag: a fingerprint of all the above, the same on every replica.
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
    ttl_seconds: float = DEFAULT_TTL_SECONDS
    etag: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(json_bytes(self.document())).hexdigest()[:16]
        object.__setattr__(self, "etag", digest)

    def document(self) -> dict[str, object]:
        """The wire form."""
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


def check_name(field_name: str, value: str) -> str:
    """A service, group, namespace or cluster name, or a 400 that says what is allowed."""
    if not _NAME.fullmatch(value):
        raise _invalid(
            field_name, value, "1 to 128 letters, digits and . _ : @ + ~ -, a letter or digit first"
        )
    return value


def check_instance_id(value: str) -> str:
    """An instance id, or a 400 that says what is allowed."""
    if not _INSTANCE_ID.fullmatch(value) or value in {".", ".."}:
        raise _invalid("instance id", value, "1 to 256 characters without spaces, / \\ or ?")
    return value


def parse_instance(instance_id: str, body: bytes) -> Instance:
    """The document a client sent for that id.

    Raises:
        Problem: 400 naming the field, its value and the rule it breaks.
    """
    fields = _json_object(body)
    unknown = sorted(fields.keys() - _FIELDS)
    if unknown:
        raise _invalid("document", unknown[0], f"made of the fields {', '.join(sorted(_FIELDS))}")
    if fields.get("id", instance_id) != instance_id:
        raise _invalid("id", fields["id"], f"the id in the path, {instance_id!r}")
    return Instance(
        id=instance_id,
        ip=_text(fields, "ip", longest=255, required=True),
        port=_port(fields),
        weight=_number(fields, "weight", 1.0, 0.0, 1e6),
        healthy=_flag(fields, "healthy"),
        enabled=_flag(fields, "enabled"),
        ephemeral=_flag(fields, "ephemeral"),
        cluster=_text(fields, "cluster", longest=128),
        metadata=_metadata(fields),
        ttl_seconds=_number(
            fields, "ttl_seconds", DEFAULT_TTL_SECONDS, SHORTEST_TTL_SECONDS, LONGEST_TTL_SECONDS
        ),
    )


_FIELDS = {
    *("id", "ip", "port", "weight", "healthy", "enabled", "ephemeral", "cluster", "metadata"),
    "ttl_seconds",
}


def _json_object(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "Invalid JSON", f"{error}; send one JSON object") from None
    if not isinstance(fields, dict):
        raise Problem(400, "Invalid JSON", "the body is not an object; send one JSON object")
    return cast(dict[str, object], fields)


def _text(fields: dict[str, object], name: str, *, longest: int, required: bool = False) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > longest or not (value or not required):
        raise _invalid(name, value, f"a text of {int(required)} to {longest} characters")
    if not value.isprintable() or " " in value:
        raise _invalid(name, value, "a text without spaces and control characters")
    return value


def _port(fields: dict[str, object]) -> int:
    value = fields.get("port")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
        raise _invalid("port", value, "a whole number from 0 to 65535")
    return value


def _number(
    fields: dict[str, object], name: str, default: float, least: float, most: float
) -> float:
    value = fields.get(name, default)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not (math.isfinite(value) and least <= value <= most)
    ):
        raise _invalid(name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _flag(fields: dict[str, object], name: str) -> bool:
    value = fields.get(name, True)
    if not isinstance(value, bool):
        raise _invalid(name, value, "true or false")
    return value


def _metadata(fields: dict[str, object]) -> dict[str, str]:
    value = fields.get("metadata", {})
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _invalid("metadata", value, "an object whose values are texts")
    if len(value) > METADATA_PAIRS or sum(map(len, [*value, *value.values()])) > (
        METADATA_CHARACTERS
    ):
        rule = f"at most {METADATA_PAIRS} pairs and {METADATA_CHARACTERS} characters"
        raise _invalid("metadata", f"{len(value)} pairs", rule)
    return cast(dict[str, str], value)


def _invalid(field_name: str, value: object, rule: str) -> Problem:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return Problem(
        400,
        "Invalid value",
        f"{field_name} must be {rule}, not {shown}; correct it and send again",
        extra={"field": field_name},
    )
