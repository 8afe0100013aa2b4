"""The access token: fetched once for all callers that need it, renewed before it expires."""

from __future__ import annotations

import logging
import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ._backoff import backoff_seconds, jittered
from ._steps import Clock, Operation, Request, Sleep, Wait
from .errors import (
    AnswerError,
    AuthenticationError,
    DeadlineExceededError,
    NacosError,
    ServerError,
    UnexpectedAnswerError,
)

__all__ = ("Login", "Token")

logger = logging.getLogger(__name__)

_LOGIN_PATHS = ("/v3/auth/user/login", "/v1/auth/users/login")
_FIRST_REPEAT_SECONDS = 0.7
_MAX_REPEAT_SECONDS = 3.0
_FIRST_LOGIN_PAUSE_SECONDS = 2.5
_MAX_LOGIN_PAUSE_SECONDS = 12.0
_RENEWAL_PAUSE_SECONDS = 1.0
_FIRST_REJECTION_PAUSE_SECONDS = 0.25
_MAX_REJECTION_PAUSE_SECONDS = 60.0
_DEFAULT_TOKEN_SECONDS = 18000.0

SendAnonymously = Callable[[Request, float], Operation[Any]]
LoginUnderWay = Future[NacosError | None]


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, with its times on the client's clock."""

    text: str
    obtained_at: float
    renew_at: float
    ends_at: float

    def __repr__(self) -> str:
        return f"Token(<secret>, ends_at={self.ends_at})"


@dataclass(frozen=True, slots=True)
class _OwnLogin:
    """This caller has to log in; the others wait for `done`.

    Attributes:
        fallback: a token that is still good, which a failure of this login leaves in use.
    """

    done: LoginUnderWay
    fallback: Token | None


@dataclass(frozen=True, slots=True)
class _OtherLogin:
    """Another caller is logging in; wait for it."""

    done: LoginUnderWay


class Login:
    """Provides a valid token; used from several threads and event loops at once.

    Args:
        send: sends a request without credentials within a deadline; its outcome is the JSON.
        attempts: of one login before a refusal is final. A server that has just started refuses
            correct passwords for some seconds.
    """

    def __init__(
        self,
        username: str,
        password: str,
        send: SendAnonymously,
        *,
        clock: Clock,
        rng: random.Random,
        attempts: int = 4,
    ) -> None:
        self._username = username
        self._password = password
        self._send = send
        self._clock = clock
        self._rng = rng
        self._attempts = attempts
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._under_way: LoginUnderWay | None = None
        self._auth_is_off = False
        self._refusals = 0
        self._refusal: NacosError | None = None
        self._next_login_at = float("-inf")
        self._rejections = 0
        self._next_rejection_at = float("-inf")

    def get_token(self, deadline: float) -> Operation[Token]:
        """A token that has not expired; logs in, or waits for the caller that is doing so.

        Raises:
            AuthenticationError: the credentials are refused, or were a moment ago.
            ServerUnavailableError: no server responded in time.
        """
        while True:
            claim = self._claim()
            if isinstance(claim, Token):
                return claim
            if isinstance(claim, _OwnLogin):
                yield from self._log_in_for_all(claim, deadline)
            else:
                yield from self._wait_for(claim, deadline)

    @property
    def auth_is_off(self) -> bool:
        """Whether the server took a call without a token when it refused the credentials."""
        return self._auth_is_off

    def record_auth_off(self) -> None:
        """The credentials were refused, and a call without a token was not: have the others go so."""
        was_off, self._auth_is_off = self._auth_is_off, True
        if not was_off:
            logger.warning(
                "Nacos refuses the login and takes calls without a token: its authentication is off;"
                " calls are sent without a token until it refuses one"
            )

    def expect_auth(self) -> None:
        """A call without a token was refused: log in at once, though that was refused before."""
        with self._lock:
            was_off, self._auth_is_off = self._auth_is_off, False
            # Of several calls refused at the same time, the first has the others wait for its login.
            if was_off:
                self._next_login_at = float("-inf")

    def after_fork(self) -> None:
        """Make a forked child independent: the lock and a login may be a parent thread's."""
        self._lock = threading.Lock()
        self._under_way = None

    def reject_token(self, token: Token) -> bool:
        """Drop a token that a server refused; returns whether a retry makes sense."""
        with self._lock:
            now = self._clock()
            if self._token is not None and self._token.text != token.text:
                return True
            if now < self._next_rejection_at:
                return False
            if now - token.obtained_at > _MAX_REJECTION_PAUSE_SECONDS:
                self._rejections = 0
            self._rejections += 1
            # A server that refuses every token must not make each call log in again.
            self._next_rejection_at = now + backoff_seconds(
                self._rejections,
                initial_seconds=_FIRST_REJECTION_PAUSE_SECONDS,
                max_seconds=_MAX_REJECTION_PAUSE_SECONDS,
            )
            self._token = None
        logger.info("a Nacos server no longer accepts the token; logging in again")
        return True

    def _claim(self) -> Token | _OwnLogin | _OtherLogin:
        """The token to use, or the login to perform or to wait for.

        Raises:
            AuthenticationError: the credentials were refused a moment ago.
        """
        with self._lock:
            now = self._clock()
            token = self._token
            if token is not None and now >= token.ends_at:
                token = None
            if token is not None and now < token.renew_at:
                return token
            if self._under_way is not None:
                # While one caller renews the token, the others use the old one until it ends.
                return token or _OtherLogin(self._under_way)
            if now < self._next_login_at:
                if token is not None:
                    return token
                if self._refusal is not None:
                    raise self._refusal
            self._under_way = Future()
            return _OwnLogin(self._under_way, fallback=token)

    def _wait_for(self, claim: _OtherLogin, deadline: float) -> Operation[None]:
        remaining = max(deadline - self._clock(), 0.0)
        try:
            failure = yield Wait(claim.done, remaining)
        except TimeoutError:
            raise DeadlineExceededError(
                "login", ("another login is under way",), remaining
            ) from None
        if failure is not None:
            raise failure

    def _log_in_for_all(self, claim: _OwnLogin, deadline: float) -> Operation[None]:
        failure: NacosError | None = None
        attempts = 1 if claim.fallback else self._attempts
        try:
            token = yield from self._log_in(deadline, attempts)
        except NacosError as error:
            failure = error
            self._record_failure(error)
            if claim.fallback is None:
                raise
            logger.warning("the Nacos token could not be renewed yet: %s", error)
        else:
            self._record_success(token)
        finally:
            # Also when this caller is cancelled: then one of the waiting callers logs in.
            with self._lock:
                self._under_way = None
            claim.done.set_result(None if claim.fallback else failure)

    def _record_failure(self, error: NacosError) -> None:
        with self._lock:
            if isinstance(error, AuthenticationError):
                self._refusals += 1
                self._refusal = error
                pause = backoff_seconds(
                    self._refusals,
                    initial_seconds=_FIRST_LOGIN_PAUSE_SECONDS,
                    max_seconds=_MAX_LOGIN_PAUSE_SECONDS,
                )
            else:
                # No server responded: only the renewal of a token waits. Without a token the next
                # call tries again at once, since failover has its own pauses.
                self._refusals = 0
                self._refusal = None
                pause = _RENEWAL_PAUSE_SECONDS
            self._next_login_at = self._clock() + jittered(pause, "equal", self._rng.random)

    def _record_success(self, token: Token) -> None:
        with self._lock:
            self._token = token
            self._refusals = 0
            self._refusal = None
            self._next_login_at = float("-inf")
        logger.info("logged in to Nacos for %.0f s", token.ends_at - token.obtained_at)

    def _log_in(self, deadline: float, attempts: int) -> Operation[Token]:
        for attempt in range(1, attempts):
            try:
                return (yield from self._attempt_login(deadline))
            except AuthenticationError:
                pause = backoff_seconds(
                    attempt, initial_seconds=_FIRST_REPEAT_SECONDS, max_seconds=_MAX_REPEAT_SECONDS
                )
                if self._clock() + pause >= deadline:
                    raise
                yield Sleep(jittered(pause, "equal", self._rng.random))
        return (yield from self._attempt_login(deadline))

    def _attempt_login(self, deadline: float) -> Operation[Token]:
        """Log in once: on the v3 path, and where the server has none, on the v1 path."""
        first, last = _LOGIN_PATHS
        try:
            return (yield from self._log_in_at(first, deadline))
        except UnexpectedAnswerError as error:
            if error.status >= 500:
                raise  # a Nacos 3, but another port than its server's, or no Nacos at all
        except AnswerError as error:
            if error.status not in {404, 410, 501}:
                raise _to_refusal(error) from None
        try:
            return (yield from self._log_in_at(last, deadline))
        except UnexpectedAnswerError:
            raise
        except AnswerError as error:
            raise _to_refusal(error) from None

    def _log_in_at(self, path: str, deadline: float) -> Operation[Token]:
        form = {"username": self._username, "password": self._password}
        request = Request("POST", path, form=form, retry="unanswered", anonymous=True)
        requested_at = self._clock()
        document = yield from self._send(request, deadline)
        return self._read_token(document, requested_at)

    def _read_token(self, document: object, requested_at: float) -> Token:
        text = document.get("accessToken") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(text, str) or not text:
            raise AuthenticationError(
                "login", status=200, detail="a response without accessToken (other auth system?)"
            )
        seconds = _read_lifetime(document.get("tokenTtl"))
        # The clients of one fleet do not all renew at the same moment.
        early = self._rng.uniform(seconds / 15, seconds / 10)
        ends_at = requested_at + seconds
        return Token(text, self._clock(), ends_at - early, ends_at)


def _read_lifetime(value: Any) -> float:
    """Seconds from `tokenTtl`; Nacos' default when it is none."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_TOKEN_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else _DEFAULT_TOKEN_SECONDS


def _to_refusal(error: AnswerError) -> AnswerError:
    """The error as a refusal of the credentials, unless the server itself failed.

    A wrong password is 403 in some builds of Nacos and 500 in others; 502 to 504 say nothing
    about the password.
    """
    if isinstance(error, ServerError) and error.status != 500:
        return error
    return AuthenticationError(
        "login", status=error.status, code=error.code, detail=error.detail, server=error.server
    )
