"""Translates the engine's exceptions. REPLACE `OSError` and `ValueError` by your engine's.

What matters to users: `retryable` errors are retried by policy (`on_config_unavailable`), the
others end the start-up. No message may contain a document's content.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from microservice_core import (
    ConfigCenterAccessDeniedError,
    ConfigCenterError,
    ConfigCenterUnavailableError,
)

__all__ = ("PROVIDER", "translate_engine_errors")

PROVIDER = "json-folder"


@contextmanager
def translate_engine_errors(operation: str, target: str) -> Iterator[None]:
    """Translate what the engine raises inside the block."""
    try:
        yield
    except PermissionError as error:
        raise ConfigCenterAccessDeniedError(
            f"the folder may not be used ({error.strerror}); give this process access to it",
            provider=PROVIDER,
            operation=operation,
            target=target,
        ) from error
    except OSError as error:
        raise ConfigCenterUnavailableError(
            f"the folder cannot be used ({error}); mount it, or check the setting `folder`",
            provider=PROVIDER,
            operation=operation,
            target=target,
            retryable=True,
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigCenterError(
            f"what is stored is no document ({type(error).__name__}); publish it again",
            provider=PROVIDER,
            operation=operation,
            target=target,
        ) from error
