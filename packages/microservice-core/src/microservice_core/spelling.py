"""Unknown names: the nearest known one, and a warning about environment variables."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping

__all__ = ("find_nearest_name", "warn_about_unknown_variables")

logger = logging.getLogger(__name__)

# An argument is wrong for certain; a variable may belong to another program.
_SIMILAR = 0.6
_VERY_SIMILAR = 0.8
_MAX_WARNINGS = 100
_warned: set[str] = set()

# What Kubernetes and Docker set in every container for a service of that name.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")


def find_nearest_name(
    name: str, known_names: Collection[str], *, least_similarity: float = _SIMILAR
) -> str:
    """Return the known name that is most like this one; empty when none is like it.

    Args:
        least_similarity: from 0 to 1 = equal, as `difflib.SequenceMatcher.ratio` measures it.
    """
    # Imported here: only a name that is wrong pays for it.
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known_names, 1, least_similarity)), "")


def warn_about_unknown_variables(
    prefix: str,
    known_names: Collection[str],
    *,
    known_prefixes: Collection[str] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Log a warning about each environment variable that looks like a misspelt one, once a process.

    Case does not matter, and whatever follows a `__` is not looked at. A variable that is like
    none of the known ones may belong to another program and is left alone, and so are those that
    Kubernetes sets for a service of that name.

    Args:
        prefix: with which the variables begin, such as `NACOS_`.
        known_names: the variables that are read, in capitals, with the prefix.
        known_prefixes: prefixes of further variables that are read.
        environment: the process's own by default.

    Returns:
        the variables that were warned about now.
    """
    unknown = [
        name
        for name in (os.environ if environment is None else environment)
        if name.upper().startswith(prefix)
        and not _is_known(name.upper(), known_names, known_prefixes)
    ]
    return tuple(name for name in unknown if _warn(name, known_names))


def _is_known(name: str, known_names: Collection[str], known_prefixes: Collection[str]) -> bool:
    return (
        name.partition("__")[0] in known_names
        or name.startswith(tuple(known_prefixes))
        or _SERVICE_LINK.search(name) is not None
    )


def _warn(name: str, known_names: Collection[str]) -> bool:
    base = name.upper().partition("__")[0]
    nearest = find_nearest_name(base, known_names, least_similarity=_VERY_SIMILAR)
    if not nearest or name in _warned or len(_warned) >= _MAX_WARNINGS:
        return False
    _warned.add(name)
    logger.warning("environment variable %s is not read; did you mean %s?", name, nearest)
    return True
