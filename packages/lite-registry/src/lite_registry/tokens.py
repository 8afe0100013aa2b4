"""Bearer tokens that allow writing; several at once, so that they can be rotated."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from .errors import Problem, SettingsError

__all__ = ("TokenFile", "TokenSource", "Tokens", "read_token_file")

logger = logging.getLogger(__name__)

_CHECK_INTERVAL_SECONDS = 1.0
_MIN_CHARACTERS = 16


class TokenSource(Protocol):
    """Decides which requests may write."""

    def __bool__(self) -> bool:
        """Whether writing needs a token at all."""
        ...

    def authorize(self, authorization: str) -> None:
        """Accept the value of an `Authorization` field.

        Raises:
            Problem: 401 when it carries none of the tokens.
        """
        ...


class Tokens:
    """A fixed set of tokens; without any, every client may write.

    Raises:
        SettingsError: a token is too short, or holds spaces or other than ASCII.
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._tokens = tuple(_validate(token) for token in tokens)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def __repr__(self) -> str:
        return f"Tokens(<{len(self._tokens)} tokens>)"

    def authorize(self, authorization: str) -> None:
        """Accept the value of an `Authorization` field.

        Raises:
            Problem: 401 when it carries none of the tokens.
        """
        if not self._tokens:
            return
        scheme, _, credentials = authorization.partition(" ")
        token = credentials.strip().encode("latin-1", "replace")
        # Every token is compared, so that the time taken reveals nothing about any of them.
        matches = [hmac.compare_digest(token, valid.encode()) for valid in self._tokens]
        if scheme.lower() != "bearer" or not any(matches):
            raise Problem(
                401,
                "Token required",
                "send `Authorization: Bearer <token>` with one of the server's tokens",
                headers=(("www-authenticate", 'Bearer realm="lite-registry"'),),
            )


class TokenFile:
    """Tokens from a file, read again when it changes; a broken file leaves the last good tokens.

    Raises:
        SettingsError: the file cannot be read or holds no token.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._tokens = read_token_file(path)
        self._signature = self._read_signature()
        self._checked_at = clock()

    def __bool__(self) -> bool:
        return True

    def authorize(self, authorization: str) -> None:
        """Accept the value of an `Authorization` field with one of the file's tokens.

        Raises:
            Problem: 401 when it carries none of them.
        """
        if self._clock() - self._checked_at >= _CHECK_INTERVAL_SECONDS:
            self._checked_at = self._clock()
            self._reload_if_changed()
        self._tokens.authorize(authorization)

    def _reload_if_changed(self) -> None:
        signature = self._read_signature()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._tokens = read_token_file(self._path)
        except SettingsError as error:
            logger.warning("%s; keeping the last valid tokens", error)

    def _read_signature(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_ino, status.st_size


def _validate(token: str) -> str:
    if (
        not token.isascii()
        or not token.isprintable()
        or " " in token
        or len(token) < _MIN_CHARACTERS
    ):
        raise SettingsError(
            f"a token is at least {_MIN_CHARACTERS} printable ASCII characters without spaces; "
            "make another one, for example by `openssl rand -hex 16`"
        )
    return token


def read_token_file(path: Path) -> Tokens:
    """The tokens of a file, one per line; empty lines and those that begin with # are ignored.

    Raises:
        SettingsError: the file cannot be read or holds no token.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"token file {str(path)!r} cannot be read: {error}") from error
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tokens:
        raise SettingsError(f"token file {str(path)!r} holds no token; write one per line")
    return Tokens(tokens)
