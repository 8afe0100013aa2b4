"""The command that encrypts a text for a configuration document: `python -m microservice_kit.encrypt`."""

from __future__ import annotations

import sys

from .config.encryption import main

__all__ = ("main",)

if __name__ == "__main__":
    sys.exit(main())
