"""How leases are written in Redis, and what cannot be read there: a newer version's, or a stranger's."""

from __future__ import annotations

import json
import logging
from collections.abc import Set as AbstractSet

from .errors import Problem
from .instance import Instance, ServiceKey, parse_instance

__all__ = ("UnreadableEntries", "decode_key", "decode_member", "encode_key", "parse_entry")

logger = logging.getLogger(__name__)

_ETAG_CHARACTERS = 16
_MAX_SHOWN = 80
_MAX_REMEMBERED = 1000


def encode_key(key: ServiceKey) -> str:
    """The name of a service in keys and messages."""
    return json.dumps(list(key), ensure_ascii=False)


def decode_key(service: str) -> ServiceKey | None:
    """The service that `encode_key` named; None when the text names none."""
    try:
        parts = json.loads(service)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parts, list) or len(parts) != 3:
        return None
    return ServiceKey(*parts) if all(isinstance(part, str) for part in parts) else None


def decode_member(member: str) -> tuple[ServiceKey, str] | None:
    """The service and the id of a lease; None when the text names none."""
    try:
        parts = json.loads(member)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parts, list) or len(parts) != 2:
        return None
    service, instance_id = parts
    if not isinstance(service, str) or not isinstance(instance_id, str):
        return None
    key = decode_key(service)
    return None if key is None else (key, instance_id)


def parse_entry(instance_id: str, entry: str) -> Instance | None:
    """The instance of an entry, which is its etag and its document; None when it cannot be read."""
    try:
        return parse_instance(instance_id, entry[_ETAG_CHARACTERS:].encode())
    except Problem:
        return None


class UnreadableEntries:
    """Counts what cannot be read, and logs it; belongs to one store.

    Attributes:
        count: the entries and messages so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._recorded: dict[str, frozenset[str]] = {}
        self._is_message_logged = False

    def record(self, service: str, names: AbstractSet[str]) -> None:
        """Record which entries of a service cannot be read now.

        An entry is counted once for as long as it stays unreadable.
        """
        recorded = self._recorded.get(service, frozenset())
        new = sorted(names - recorded)
        self.count += len(new)
        for name in new[:1]:
            logger.warning(
                "entry %r of service %r in the store of leases cannot be read and is skipped, "
                "with %d more",
                *(name[:_MAX_SHOWN], service[:_MAX_SHOWN], len(new) - 1),
            )
        self._recorded.pop(service, None)
        if names and len(self._recorded) < _MAX_REMEMBERED:
            self._recorded[service] = frozenset(names)

    def record_message(self, name: str) -> None:
        """Record a name of a service that is none; the first is logged."""
        self.count += 1
        if not self._is_message_logged:
            logger.warning(
                "%r in the store of leases names no service and is skipped, as later ones are",
                name[:_MAX_SHOWN],
            )
        self._is_message_logged = True
