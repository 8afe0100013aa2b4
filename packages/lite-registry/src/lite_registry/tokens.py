"""Bearer tokens that allow writing; several at once, so that they can be rotated."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path

from .errors import Problem, SettingsError

__all__ = ("Tokens", "read_token_file")


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
