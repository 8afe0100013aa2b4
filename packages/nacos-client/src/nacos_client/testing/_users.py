"""The fake's users, tokens and permissions."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._wire import FakeRequest, FakeResponse, Refusal, build_bare, build_spring_error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Users",)

LOGIN_PATHS = ("/v3/auth/user/login", "/v1/auth/users/login")
_NO_USER = "User not found! Please check user exist or password is right!"


@dataclass(slots=True)
class FakeUser:
    """One user."""

    password: str
    admin: bool


class Users:
    """Logs in and checks tokens as the default auth plugin does."""

    def __init__(self, clock: Callable[[], float], token_seconds: int) -> None:
        self.accounts: dict[str, FakeUser] = {}
        self.roles: set[tuple[str, str]] = set()  # user name, role
        self.permissions: set[tuple[str, str, str]] = set()  # role, resource, action
        self.token_seconds = token_seconds
        self.enabled = True
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}

    def login(self, request: FakeRequest) -> FakeResponse:
        """The response to a login: a token, without the usual code and message."""
        name, password = request.get("username"), request.get("password")
        user = self.accounts.get(name)
        if user is None:
            return build_spring_error(403, "Forbidden", "Access Denied", request.path)
        if not hmac.compare_digest(user.password.encode(), password.encode()):
            message = "No message available"
            return build_spring_error(500, "Internal Server Error", message, request.path)
        token = "AUTH_DISABLED" if not self.enabled else secrets.token_urlsafe(24)
        self._tokens[token] = (name, self._clock() + self.token_seconds)
        return build_bare(
            {
                "accessToken": token,
                "tokenTtl": self.token_seconds,
                "globalAdmin": user.admin,
                "username": name,
            }
        )

    def forget_tokens(self) -> None:
        """Invalidate all tokens, as a new secret key does."""
        self._tokens.clear()

    def authorize(self, request: FakeRequest, resource: str, action: str) -> None:
        """Refuse a request without a valid token or without the permission.

        Raises:
            Refusal: the token or the permission is missing.
        """
        if not self.enabled:
            return
        token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        token = token or request.headers.get("accesstoken", "") or request.get("accessToken")
        if not token:
            raise _build_refusal(request, 401, _NO_USER)
        name, ends_at = self._tokens.get(token, ("", 0.0))
        if not name:
            raise _build_refusal(request, 401, "token invalid!")
        if self._clock() >= ends_at:
            raise _build_refusal(request, 401, "token expired!")
        user = self.accounts.get(name)
        if user is None or not (user.admin or self._has_permission(name, resource, action)):
            raise _build_refusal(request, 403, "authorization failed!")

    def _has_permission(self, name: str, resource: str, action: str) -> bool:
        """Whether a role of the user covers the resource; `*` in a permission matches any text."""
        roles = {role for user, role in self.roles if user == name}
        return any(
            role in roles
            and action in allowed
            and re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), resource)
            for role, pattern, allowed in self.permissions
        )


def _build_refusal(request: FakeRequest, code: int, message: str) -> Refusal:
    return Refusal(
        build_spring_error(403, "Forbidden", f"Code: {code}, Message: {message}.", request.path)
    )
