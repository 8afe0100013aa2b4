"""The command `nacos`: shows and changes the content of a Nacos server from a terminal."""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> int:
    """Entry point of the console script."""
    try:
        import rich  # noqa: F401
    except ImportError:
        sys.stderr.write("the command needs: pip install 'nacos-client[cli]'\n")
        return 1
    from .command import run

    return run(sys.argv[1:])
