"""The access token: fetched once for all who need it, renewed before it expires."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._steps import Clock, Operation, Request, Sleep, Wait
from .errors import (
    AnswerError,
    AuthenticationError,
    DeadlineExceededError,
    NacosError,
    ServerError,
    UnexpectedAnswerError,
)

if TYPE_CHECKING:
    import random

__all__ = ("Login", "Token")

logger = logging.getLogger(__name__)

LOGIN_PATHS = ("/v3/auth/user/login", "/v1/auth/users/login")
FIRST_BACK_OFF = 2.0
LONGEST_BACK_OFF = 10.0
LONGEST_RELOGIN_PAUSE = 60.0

Exchange = Callable[[Request, float], Operation[Any]]


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and when it ends, on the client's clock."""

    text: str
    obtained_at: float
    renew_at: float
    ends_at: float

    def __repr__(self) -> str:
        return f"Token(<secret>, ends_at={self.ends_at})"


class Login:
    """Hands out a valid token; used from several threads and event loops at once.

    Args:
        exchange: sends a request without credentials within a deadline; its outcome is the JSON.
        refusal_pauses: waits before a refused login is tried again. A server that has just
            started refuses right passwords for some seconds.
    """

    def __init__(
        self,
        username: str,
        password: str,
        exchange: Exchange,
        *,
        clock: Clock,
        rng: random.Random,
        refusal_pauses: tuple[float, ...] = (0.5, 1.0, 2.0),
    ) -> None:
        self._username = username
        self._password = password
        self._exchange = exchange
        self._clock = clock
        self._rng = rng
        self._refusal_pauses = refusal_pauses
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._flight: Future[NacosError | None] | None = None
        self._refusals = 0
        self._refusal: NacosError | None = None
        self._next_login_at = float("-inf")
        self._rejections = 0
        self._next_rejection_at = float("-inf")

    def token(self, deadline: float) -> Operation[Token]:
        """A token that has not expired; logs in, or waits for whoever is doing so.

        Raises:
            AuthenticationError: the credentials are refused, or were a moment ago.
            ServerUnavailableError: no server answered in time.
        """
        while True:
            token, flight, leading = self._claim()
            if leading:
                assert flight is not None  # noqa: S101 - whoever leads has a flight
                yield from self._lead(flight, token, deadline)
            elif token is not None:
                return token
            elif flight is not None:
                yield from self._follow(flight, deadline)

    def after_fork(self) -> None:
        """In a child: whoever held the lock or was logging in is in the parent."""
        self._lock = threading.Lock()
        self._flight = None

    def rejected(self, token: Token) -> bool:
        """A server refused the token: drop it. Whether another try makes sense."""
        with self._lock:
            now = self._clock()
            if self._token is not None and self._token.text != token.text:
                return True
            if now < self._next_rejection_at:
                return False
            if now - token.obtained_at > LONGEST_RELOGIN_PAUSE:
                self._rejections = 0
            pause = 0.25 * 2**self._rejections
            self._next_rejection_at = now + min(pause, LONGEST_RELOGIN_PAUSE)
            self._rejections = min(self._rejections + 1, 16)
            self._token = None
        logger.info("a Nacos server no longer accepts the token; logging in again")
        return True

    def _claim(self) -> tuple[Token | None, Future[NacosError | None] | None, bool]:
        """What to do now: use the token, wait for the flight, or (True) lead one."""
        with self._lock:
            now = self._clock()
            token = self._token
            if token is not None and now >= token.ends_at:
                token = None
            if token is not None and now < token.renew_at:
                return token, None, False
            if self._flight is not None:
                return token, self._flight, False
            if now < self._next_login_at:
                if token is None and self._refusal is not None:
                    raise self._refusal
                return token, None, False
            self._flight = Future()
            return token, self._flight, True

    def _follow(self, flight: Future[NacosError | None], deadline: float) -> Operation[None]:
        remaining = max(deadline - self._clock(), 0.0)
        try:
            failure = yield Wait(flight, remaining)
        except TimeoutError:
            raise DeadlineExceededError(
                "login", ("another login is under way",), remaining
            ) from None
        if failure is not None:
            raise failure

    def _lead(
        self, flight: Future[NacosError | None], fallback: Token | None, deadline: float
    ) -> Operation[None]:
        failure: NacosError | None = None
        try:
            token = yield from self._log_in(deadline, () if fallback else self._refusal_pauses)
        except NacosError as error:
            failure = error
            self._note_failure(error)
            if fallback is None:
                raise
            logger.warning("the Nacos token could not be renewed yet: %s", error)
        else:
            self._note_success(token)
        finally:
            with self._lock:
                self._flight = None
            flight.set_result(None if fallback else failure)

    def _note_failure(self, error: NacosError) -> None:
        with self._lock:
            refused = isinstance(error, AuthenticationError)
            pause = min(FIRST_BACK_OFF * 2**self._refusals, LONGEST_BACK_OFF) if refused else 1.0
            self._refusals = min(self._refusals + 1, 8) if refused else 0
            self._refusal = error if refused else None
            # An outage is the business of server choice; only a refusal bars the next login.
            self._next_login_at = self._clock() + pause * self._rng.uniform(0.8, 1.2)
            if not refused and self._token is None:
                self._next_login_at = float("-inf")

    def _note_success(self, token: Token) -> None:
        with self._lock:
            self._token = token
            self._refusals = 0
            self._refusal = None
            self._next_login_at = float("-inf")
        logger.info("logged in to Nacos for %.0f s", token.ends_at - token.obtained_at)

    def _log_in(self, deadline: float, pauses: tuple[float, ...]) -> Operation[Token]:
        for pause in (*pauses, None):
            try:
                return (yield from self._try(deadline))
            except AuthenticationError:
                if pause is None or self._clock() + pause >= deadline:
                    raise
                yield Sleep(pause * self._rng.uniform(0.8, 1.2))
        raise AssertionError  # pragma: no cover - the last pause is None

    def _try(self, deadline: float) -> Operation[Token]:
        """One login: on the v3 path, and where there is none, on the v1 path."""
        for path in LOGIN_PATHS:
            form = {"username": self._username, "password": self._password}
            request = Request("POST", path, form=form, repeat="unanswered", anonymous=True)
            asked_at = self._clock()
            try:
                document = yield from self._exchange(request, deadline)
            except UnexpectedAnswerError:
                if path == LOGIN_PATHS[-1]:
                    raise
            except AnswerError as error:
                if path != LOGIN_PATHS[-1] and error.status in {404, 410, 501}:
                    continue
                raise _as_refusal(error) from None
            else:
                return self._read(document, asked_at)
        raise AssertionError  # pragma: no cover - the last path returns or raises

    def _read(self, document: object, asked_at: float) -> Token:
        text = document.get("accessToken") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(text, str) or not text:
            raise AuthenticationError(
                "login", status=200, detail="an answer without accessToken (other auth system?)"
            )
        seconds = float(document.get("tokenTtl") or 18000)
        early = self._rng.uniform(seconds / 15, seconds / 10)
        return Token(text, self._clock(), asked_at + seconds - early, asked_at + seconds)


def _as_refusal(error: AnswerError) -> AnswerError:
    """A wrong password is 403 on some builds and 500 on others; 502 to 504 are no verdict."""
    if isinstance(error, ServerError) and error.status != 500:
        return error
    return AuthenticationError(
        "login", status=error.status, code=error.code, detail=error.detail, server=error.server
    )
