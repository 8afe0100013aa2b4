"""What Nacos allows in names, checked before the network (ParamCheckRule of Nacos 3.1)."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_CONTENT = 10 * 1024 * 1024
LONGEST_METADATA = 1024
HEAVIEST = 10000.0

_NAMESPACE = re.compile(r"[\w-]{1,64}", re.ASCII)
_DATA_ID = re.compile(r"[a-zA-Z0-9\-_:.]{1,256}")
_GROUP = re.compile(r"[a-zA-Z0-9\-_:.]{1,128}")
_SERVICE = re.compile(r"(?!@)(?!.*@@)[\x21-\x7e]{1,512}")
_CLUSTER = re.compile(r"[0-9a-zA-Z-]{1,64}")
_IP = re.compile(r"[\x21-\x7e]{1,128}")


def data_id(value: str) -> str:
    """A data id, or InvalidArgumentError."""
    return _matched("data_id", value, _DATA_ID, "1 to 256 of letters, digits and - _ : .")


def group(value: str) -> str:
    """A group name, or InvalidArgumentError."""
    return _matched("group", value, _GROUP, "1 to 128 of letters, digits and - _ : .")


def namespace(value: str) -> str:
    """A namespace id; empty means `public`."""
    rule = "a namespace id (not its display name): 1 to 64 of letters, digits, - and _"
    return _matched("namespace", value, _NAMESPACE, rule) if value else "public"


def service(value: str) -> str:
    """A bare service name: `GROUP@@name` is refused, as Nacos would register it literally."""
    rule = (
        "1 to 512 printable ASCII characters without spaces, without `@@` and not starting "
        "with `@` (give the group as group=)"
    )
    return _matched("service", value, _SERVICE, rule)


def cluster(value: str) -> str:
    """A cluster name, or InvalidArgumentError."""
    return _matched("cluster", value, _CLUSTER, "1 to 64 of letters, digits and -")


def clusters(values: Iterable[str]) -> tuple[str, ...]:
    """Cluster names; one plain string is refused, as it would be read letter by letter."""
    if isinstance(values, str):
        raise InvalidArgumentError("clusters", values, "a list of cluster names")
    return tuple(cluster(value) for value in values)


def ip(value: str) -> str:
    """An address or host name, or InvalidArgumentError."""
    return _matched("ip", value, _IP, "an address of 1 to 128 characters without spaces")


def port(value: object) -> int:
    """A port, or InvalidArgumentError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise InvalidArgumentError("port", value, "a whole number from 0 to 65535")
    return value


def weight(value: float) -> float:
    """A weight, or InvalidArgumentError."""
    if not (math.isfinite(value) and 0 <= value <= HEAVIEST):
        raise InvalidArgumentError("weight", value, "a number from 0 to 10000")
    return float(value)


def content(value: object) -> str:
    """What can be published: text that is not blank, of at most 10 Mi characters."""
    if not isinstance(value, str):
        raise InvalidArgumentError("content", type(value).__name__, "text (str), decoded as UTF-8")
    if not value.strip():
        raise InvalidArgumentError("content", value, "not blank: Nacos stores no empty document")
    if len(value) > LONGEST_CONTENT:
        raise InvalidArgumentError(
            "content", f"{len(value)} characters", "at most 10485760 characters"
        )
    try:
        value.encode()
    except UnicodeEncodeError as broken:
        raise InvalidArgumentError(
            "content", f"a lone surrogate at {broken.start}", "text that UTF-8 can hold"
        ) from None
    return value


def metadata(value: Mapping[str, str] | None) -> dict[str, str]:
    """Labels of text, at most 1024 characters in all, whose beat settings make sense."""
    labels = dict(value or {})
    _check_text(labels)
    size = sum(len(key) + len(label) for key, label in labels.items())
    if size > LONGEST_METADATA:
        raise InvalidArgumentError(
            "metadata", f"{size} characters", "at most 1024 characters, keys and values together"
        )
    _check_beat_settings(labels)
    return labels


BEAT_INTERVAL = "preserved.heart.beat.interval"
BEAT_TIMEOUT = "preserved.heart.beat.timeout"
DELETE_TIMEOUT = "preserved.ip.delete.timeout"
_BEAT_DEFAULTS = {BEAT_INTERVAL: 5000, BEAT_TIMEOUT: 15000, DELETE_TIMEOUT: 30000}


def beat_milliseconds(labels: Mapping[str, str], key: str) -> int:
    """One of the beat settings of an instance, from its metadata or Nacos' default."""
    text = labels.get(key)
    if text is None:
        return _BEAT_DEFAULTS[key]
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InvalidArgumentError(f"metadata[{key!r}]", text, "milliseconds, digits only")
    return int(text)


def _check_text(labels: Mapping[str, object]) -> None:
    for key, label in labels.items():
        if not all(isinstance(part, str) for part in (key, label)):
            raise InvalidArgumentError("metadata", {key: label}, "text to text")


def _check_beat_settings(labels: Mapping[str, str]) -> None:
    interval = beat_milliseconds(labels, BEAT_INTERVAL)
    for key in (BEAT_TIMEOUT, DELETE_TIMEOUT):
        if beat_milliseconds(labels, key) < interval:
            rule = f"at least {BEAT_INTERVAL} ({interval} ms)"
            raise InvalidArgumentError(f"metadata[{key!r}]", labels.get(key, "the default"), rule)


def metadata_text(labels: Mapping[str, str]) -> str:
    """The JSON text that Nacos wants metadata as."""
    return json.dumps(dict(labels), ensure_ascii=False, separators=(",", ":"))


def bare_service(full: str) -> tuple[str, str]:
    """Group and name of a `GROUP@@name`; an empty group when there is none."""
    head, separator, tail = full.partition("@@")
    return (head, tail) if separator else ("", full)


def _matched(field: str, value: object, pattern: re.Pattern[str], rule: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidArgumentError(field, value, rule)
    return value
