"""The limit of open files, which bounds the connections of a process."""

from __future__ import annotations

__all__ = ("raise_file_limit",)

_OTHER_FILES = 128


def raise_file_limit(connections: int) -> int:
    """Let the process open that many connections, as far as the system allows it.

    Shells and service managers often start a process with a soft limit of 1,024.

    Returns:
        How many connections it may open now.
    """
    try:
        import resource
    except ImportError:  # not a POSIX system, which has no such limit
        return connections
    needed_limit = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed_limit:
        return connections
    if hard != resource.RLIM_INFINITY:
        needed_limit = min(needed_limit, hard)
    if needed_limit > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed_limit, hard))
    return max(1, max(soft, needed_limit) - _OTHER_FILES)
