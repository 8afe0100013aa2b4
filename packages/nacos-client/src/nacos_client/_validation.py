"""What Nacos accepts as names and values, checked before anything is sent (its ParamCheckRule)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from .errors import InvalidArgumentError

__all__ = (
    "BEAT_INTERVAL",
    "decode_service_name",
    "encode_metadata",
    "read_beat_milliseconds",
    "strip_brackets",
    "validate_cluster",
    "validate_clusters",
    "validate_content",
    "validate_credentials",
    "validate_data_id",
    "validate_flag",
    "validate_group",
    "validate_ip",
    "validate_labels",
    "validate_listener",
    "validate_metadata",
    "validate_namespace",
    "validate_port",
    "validate_service",
    "validate_weight",
)

T = TypeVar("T")

BEAT_INTERVAL = "preserved.heart.beat.interval"
_BEAT_TIMEOUT = "preserved.heart.beat.timeout"
_DELETE_TIMEOUT = "preserved.ip.delete.timeout"
_BEAT_DEFAULTS = {BEAT_INTERVAL: 5000, _BEAT_TIMEOUT: 15000, _DELETE_TIMEOUT: 30000}

_MAX_CONTENT_CHARACTERS = 10 * 1024 * 1024
_MAX_METADATA_CHARACTERS = 1024
_MAX_WEIGHT = 10000.0
_MAX_MILLISECONDS_DIGITS = 18

_NAMESPACE = re.compile(r"[\w-]{1,64}", re.ASCII)
_DATA_ID = re.compile(r"[a-zA-Z0-9\-_:.]{1,256}")
_GROUP = re.compile(r"[a-zA-Z0-9\-_:.]{1,128}")
_SERVICE = re.compile(r"(?!@)(?!.*@@)[\x21-\x7e]{1,512}")
_CLUSTER = re.compile(r"[0-9a-zA-Z-]{1,64}")
_IP = re.compile(r"[\x21-\x7e]{1,128}")


def validate_data_id(value: str) -> str:
    """The data id of a configuration document, if it is legal.

    Raises:
        InvalidArgumentError: it is not.
    """
    return _match("data_id", value, _DATA_ID, "1 to 256 of letters, digits and - _ : .")


def validate_group(value: str) -> str:
    """The name of a group, if it is legal.

    Raises:
        InvalidArgumentError: it is not.
    """
    return _match("group", value, _GROUP, "1 to 128 of letters, digits and - _ : .")


def validate_namespace(value: str) -> str:
    """The id of a namespace, if it is legal; `public` for an empty one.

    Raises:
        InvalidArgumentError: it is not legal.
    """
    rule = "a namespace id (not its display name): 1 to 64 of letters, digits, - and _"
    return "public" if value in {"", None} else _match("namespace", value, _NAMESPACE, rule)


def validate_service(value: str) -> str:
    """The name of a service without its group, if it is legal.

    Raises:
        InvalidArgumentError: it is not, for example `GROUP@@name`, which Nacos would register
            literally.
    """
    rule = (
        "1 to 512 printable ASCII characters without spaces, without `@@` and not starting "
        "with `@` (give the group as group=)"
    )
    return _match("service", value, _SERVICE, rule)


def validate_cluster(value: str) -> str:
    """The name of a cluster, if it is legal.

    Raises:
        InvalidArgumentError: it is not.
    """
    return _match("cluster", value, _CLUSTER, "1 to 64 of letters, digits and -")


def validate_clusters(values: Iterable[str]) -> tuple[str, ...]:
    """The names of clusters, sorted and each once, if all of them are legal.

    Raises:
        InvalidArgumentError: one is not, or the argument is a single string, which would be read
            letter by letter.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidArgumentError("clusters", values, "a list of cluster names")
    return tuple(sorted({validate_cluster(value) for value in values}))


def strip_brackets(ip: str) -> str:
    """An IPv6 address without the brackets that some clients register with it."""
    return ip[1:-1] if ip.startswith("[") and ip.endswith("]") and ":" in ip else ip


def validate_ip(value: str) -> str:
    """An address or host name, if it is legal; an IPv6 address without brackets.

    Raises:
        InvalidArgumentError: it is not.
    """
    return strip_brackets(
        _match("ip", value, _IP, "an address of 1 to 128 characters without spaces")
    )


def validate_port(value: object) -> int:
    """A port, if it is legal.

    Raises:
        InvalidArgumentError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise InvalidArgumentError("port", value, "a whole number from 0 to 65535")
    return value


def validate_weight(value: object) -> float:
    """The weight of an instance, if it is legal.

    Raises:
        InvalidArgumentError: it is not, for example text.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (math.isfinite(value) and 0 <= value <= _MAX_WEIGHT)
    ):
        raise InvalidArgumentError("weight", value, "a number from 0 to 10000")
    return float(value)


def validate_flag(field: str, value: object) -> bool:
    """The value, if it is True or False.

    Raises:
        InvalidArgumentError: it is not, for example the text `false`, which counts as true.
    """
    if not isinstance(value, bool):
        raise InvalidArgumentError(field, value, "True or False")
    return value


def validate_listener(field: str, value: T) -> T:
    """The value, if it can be called.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not callable(value):
        raise InvalidArgumentError(field, value, "a function or another callable")
    return value


def validate_labels(value: object) -> Mapping[str, str]:
    """Metadata, whether to store or to compare with; empty for None.

    Raises:
        InvalidArgumentError: it is no mapping of text to text.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgumentError("metadata", value, "a mapping of text to text")
    _check_text(value)
    return value


def validate_credentials(username: object, password: object) -> tuple[str, str]:
    """A user name and a password, if they are text that is not empty.

    Raises:
        InvalidArgumentError: they are not; the error does not show the password.
    """
    rule = "text that is not empty"
    if not isinstance(username, str) or not username:
        raise InvalidArgumentError("username", username, rule)
    if not isinstance(password, str) or not password:
        raise InvalidArgumentError("password", "<secret>", rule)
    return username, password


def validate_content(value: object) -> str:
    """The content of a document, if Nacos can store it.

    Raises:
        InvalidArgumentError: it is not text, is blank, has more than 10 Mi characters or cannot
            be written as UTF-8.
    """
    if not isinstance(value, str):
        raise InvalidArgumentError("content", type(value).__name__, "text (str), decoded as UTF-8")
    if not value.strip():
        raise InvalidArgumentError("content", value, "not blank: Nacos stores no empty document")
    if len(value) > _MAX_CONTENT_CHARACTERS:
        raise InvalidArgumentError(
            "content", f"{len(value)} characters", "at most 10485760 characters"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            "content", f"a lone surrogate at {error.start}", "text that UTF-8 can hold"
        ) from None
    return value


def validate_metadata(value: Mapping[str, str] | None) -> dict[str, str]:
    """The metadata of an instance, if Nacos can store it and its beat settings make sense.

    Raises:
        InvalidArgumentError: it holds other things than text, more than 1024 characters in all,
            or a time-out that is shorter than the interval between beats.
    """
    labels = dict(validate_labels(value))
    size = sum(len(key) + len(label) for key, label in labels.items())
    if size > _MAX_METADATA_CHARACTERS:
        raise InvalidArgumentError(
            "metadata", f"{size} characters", "at most 1024 characters, keys and values together"
        )
    _check_beat_settings(labels)
    return labels


def read_beat_milliseconds(labels: Mapping[str, str], key: str) -> int:
    """One of an instance's beat settings, from its metadata; else Nacos' default.

    Raises:
        InvalidArgumentError: the metadata holds something else than a positive whole number.
    """
    text = labels.get(key)
    if text is None:
        return _BEAT_DEFAULTS[key]
    # isdigit alone accepts characters such as a superscript two, which int refuses.
    legal = text.isascii() and text.isdigit() and len(text) <= _MAX_MILLISECONDS_DIGITS
    if not (legal and int(text) > 0):
        raise InvalidArgumentError(f"metadata[{key!r}]", text, "milliseconds, digits only")
    return int(text)


def _check_text(labels: Mapping[str, object]) -> None:
    for key, label in labels.items():
        if not all(isinstance(part, str) for part in (key, label)):
            raise InvalidArgumentError("metadata", {key: label}, "text to text")


def _check_beat_settings(labels: Mapping[str, str]) -> None:
    interval = read_beat_milliseconds(labels, BEAT_INTERVAL)
    for key in (_BEAT_TIMEOUT, _DELETE_TIMEOUT):
        if read_beat_milliseconds(labels, key) < interval:
            rule = f"at least {BEAT_INTERVAL} ({interval} ms)"
            raise InvalidArgumentError(f"metadata[{key!r}]", labels.get(key, "the default"), rule)


def encode_metadata(labels: Mapping[str, str]) -> str:
    """Metadata as the JSON text that Nacos expects."""
    return json.dumps(dict(labels), ensure_ascii=False, separators=(",", ":"))


def decode_service_name(full_name: str) -> tuple[str, str]:
    """Group and service of a name like `GROUP@@service`; the group is empty when it has none."""
    head, separator, tail = full_name.partition("@@")
    return (head, tail) if separator else ("", full_name)


def _match(field: str, value: object, pattern: re.Pattern[str], rule: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidArgumentError(field, value, rule)
    return value
