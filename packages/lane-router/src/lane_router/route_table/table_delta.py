"""The difference between two versions of the routes, as a registry may send it."""

from __future__ import annotations

from collections.abc import Mapping

from lane_router.errors import RouteTableError

__all__ = ("DELTA_FIELDS", "apply_delta", "is_delta")

DELTA_FIELDS = frozenset({"since", "removed"})


def is_delta(document: Mapping[str, object]) -> bool:
    """Whether the document holds only what changed after another version."""
    return "since" in document


def apply_delta(
    before: Mapping[str, object], version: str, delta: Mapping[str, object]
) -> dict[str, object]:
    """The services after the change.

    Args:
        before: all services of the version.
        version: the version of `before`.
        delta: `since`, the changed `services`, and the names of those `removed`.

    Raises:
        RouteTableError: it is the difference to another version, or malformed.
    """
    services, removed = delta.get("services"), delta.get("removed")
    if delta.get("since") != version:
        raise RouteTableError(
            f"the registry sent the changes since version {str(delta.get('since'))[:64]!r}, "
            f"not since {version!r}; the whole table is requested"
        )
    if not isinstance(services, Mapping) or not isinstance(removed, list):
        raise RouteTableError(
            "the changes of a route table are an object `services` and a list `removed`; "
            "the whole table is requested"
        )
    removed_names = {name for name in removed if isinstance(name, str)}
    services_left = {name: entry for name, entry in before.items() if name not in removed_names}
    return {**services_left, **services}
