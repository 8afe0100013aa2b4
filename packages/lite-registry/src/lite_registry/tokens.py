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

LOOK_EVERY_SECONDS = 1.0


class TokenSource(Protocol):
    """What decides who may write."""

    def __bool__(self) -> bool:
        """Whether a token is asked for at all."""
        ...

    def check(self, authorization: str) -> None:
        """Let a writer through, or raise a 401 `Problem`."""
        ...


class Tokens:
    """The tokens in force; with none, everybody may write."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._tokens = tuple(_checked(token) for token in tokens)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def __repr__(self) -> str:
        return f"Tokens(<{len(self._tokens)} tokens>)"

    def check(self, authorization: str) -> None:
        """Let a writer through.

        Raises:
            Problem: 401 when the `Authorization` field carries none of the tokens.
        """
        if not self._tokens:
            return
        scheme, _, given = authorization.partition(" ")
        offered = given.strip().encode("latin-1", "replace")
        # Every token is compared, so that the time taken says nothing about which came close.
        matches = [hmac.compare_digest(offered, token.encode()) for token in self._tokens]
        if scheme.lower() != "bearer" or not any(matches):
            raise Problem(
                401,
                "Token required",
                "send `Authorization: Bearer <token>` with one of the server's tokens",
                headers=(("www-authenticate", 'Bearer realm="lite-registry"'),),
            )


class TokenFile:
    """Tokens from a file, read again when it changes; one that turns bad leaves the last good ones.

    Raises:
        SettingsError: the file cannot be read or holds no token.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._tokens = read_token_file(path)
        self._seen = self._stamp()
        self._looked_at = clock()

    def __bool__(self) -> bool:
        return True

    def check(self, authorization: str) -> None:
        """Let a writer through who has a token that is in the file now."""
        if self._clock() - self._looked_at >= LOOK_EVERY_SECONDS:
            self._looked_at = self._clock()
            self._look()
        self._tokens.check(authorization)

    def _look(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._tokens = read_token_file(self._path)
        except SettingsError as error:
            logger.warning("%s; the tokens read last stay in force", error)

    def _stamp(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_ino, status.st_size


def _checked(token: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token or len(token) < 8:
        raise SettingsError(
            "a token is at least 8 printable ASCII characters without spaces; make another one"
        )
    return token


def read_token_file(path: Path) -> Tokens:
    """One token per line; empty lines and those that begin with # do not count.

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
