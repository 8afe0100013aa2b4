"""The fake's users, tokens and permissions."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._wire import Call, Refusal, Reply, bare, spring_error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Users",)

LOGIN_PATHS = ("/v3/auth/user/login", "/v1/auth/users/login")
NO_USER = "User not found! Please check user exist or password is right!"


@dataclass(slots=True)
class User:
    """One user."""

    password: str
    admin: bool


class Users:
    """Logs in and checks tokens as the default auth plugin does."""

    def __init__(self, clock: Callable[[], float], token_seconds: int) -> None:
        self.known: dict[str, User] = {}
        self.roles: set[tuple[str, str]] = set()  # user name, role
        self.permissions: set[tuple[str, str, str]] = set()  # role, resource, action
        self.token_seconds = token_seconds
        self.enabled = True
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}

    def login(self, call: Call) -> Reply:
        """The token, outside of the usual envelope."""
        name, given = call.get("username"), call.get("password")
        user = self.known.get(name)
        if user is None:
            return spring_error(403, "Forbidden", "Access Denied", call.path)
        if not hmac.compare_digest(user.password.encode(), given.encode()):
            words = "No message available"
            return spring_error(500, "Internal Server Error", words, call.path)
        token = "AUTH_DISABLED" if not self.enabled else secrets.token_urlsafe(24)
        self._tokens[token] = (name, self._clock() + self.token_seconds)
        return bare(
            {
                "accessToken": token,
                "tokenTtl": self.token_seconds,
                "globalAdmin": user.admin,
                "username": name,
            }
        )

    def forget_tokens(self) -> None:
        """What a new secret key does."""
        self._tokens.clear()

    def check(self, call: Call, resource: str, action: str) -> None:
        """Refuse a call without a good token or without permission."""
        if not self.enabled:
            return
        token = call.headers.get("authorization", "").removeprefix("Bearer ").strip()
        token = token or call.headers.get("accesstoken", "") or call.get("accessToken")
        if not token:
            raise _forbidden(call, 401, NO_USER)
        name, ends_at = self._tokens.get(token, ("", 0.0))
        if not name:
            raise _forbidden(call, 401, "token invalid!")
        if self._clock() >= ends_at:
            raise _forbidden(call, 401, "token expired!")
        user = self.known.get(name)
        if user is None or not (user.admin or self._permitted(name, resource, action)):
            raise _forbidden(call, 403, "authorization failed!")

    def _permitted(self, name: str, resource: str, action: str) -> bool:
        """Whether one of the user's roles covers it; `*` in a resource matches anything."""
        roles = {role for user, role in self.roles if user == name}
        return any(
            role in roles
            and action in allowed
            and re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), resource)
            for role, pattern, allowed in self.permissions
        )


def _forbidden(call: Call, code: int, words: str) -> Refusal:
    return Refusal(spring_error(403, "Forbidden", f"Code: {code}, Message: {words}.", call.path))
