"""Credentials for the API server: tokens, client certificates, exec plugins, with rotation.

Source for exec plugins:
https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

__all__ = ("Credentials", "ExecPlugin", "Pem", "StaticCredentials", "TokenFileCredentials")

_TOKEN_SECONDS = 60.0
_EXEC_SECONDS = 30.0
_RENEW_EARLY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate or key: a file that may be replaced, or its content."""

    file: Path | None = None
    content: bytes = b""

    def read_signature(self) -> object:
        """A value that changes when the file is replaced."""
        if self.file is None:
            return self.content
        status = self.file.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size

    def read(self) -> bytes:
        """The PEM text."""
        return self.file.read_bytes() if self.file else self.content


class Credentials(Protocol):
    """Authenticates this process to the API server."""

    async def get_token(self) -> str:
        """The bearer token to send now; empty for none.

        Raises:
            OSError, ValueError: there is none now, for example because a file is missing.
        """
        ...

    def get_certificate(self) -> tuple[Pem, Pem] | None:
        """The client certificate and its key; None for none."""
        ...

    def discard(self) -> None:
        """Read them again next time: the server did not accept them."""
        ...


@dataclass(slots=True)
class StaticCredentials:
    """A token or a client certificate that never changes."""

    token: str = ""
    certificate: tuple[Pem, Pem] | None = None

    async def get_token(self) -> str:
        return self.token

    def get_certificate(self) -> tuple[Pem, Pem] | None:
        return self.certificate

    def discard(self) -> None:
        """Do nothing: there are no others."""


@dataclass(slots=True)
class TokenFileCredentials:
    """A token in a file that is replaced before it expires, such as a service account's."""

    file: Path
    clock: Callable[[], float] = time.monotonic
    _token: str = ""
    _read_at: float = float("-inf")

    async def get_token(self) -> str:
        if self.clock() - self._read_at >= _TOKEN_SECONDS:
            self._token = self.file.read_text(encoding="ascii").strip()
            self._read_at = self.clock()
        return self._token

    def get_certificate(self) -> tuple[Pem, Pem] | None:
        return None

    def discard(self) -> None:
        self._read_at = float("-inf")


@dataclass(slots=True)
class ExecPlugin:
    """A program that prints credentials; run again before they expire."""

    command: list[str]
    environment: Mapping[str, str]
    api_version: str
    cluster: Mapping[str, object] | None = None
    wall_clock: Callable[[], float] = time.time
    _status: dict[str, object] = field(default_factory=dict)
    _expires_at: float = float("-inf")

    async def get_token(self) -> str:
        if self.wall_clock() >= self._expires_at - _RENEW_EARLY_SECONDS:
            self._status = await self._run()
            expires = self._status.get("expirationTimestamp")
            self._expires_at = _parse_timestamp(expires) if expires else float("inf")
        return str(self._status.get("token") or "")

    def get_certificate(self) -> tuple[Pem, Pem] | None:
        certificate = self._status.get("clientCertificateData")
        key = self._status.get("clientKeyData")
        if not isinstance(certificate, str) or not isinstance(key, str):
            return None
        return Pem(content=certificate.encode()), Pem(content=key.encode())

    def discard(self) -> None:
        self._expires_at = float("-inf")

    async def _run(self) -> dict[str, object]:
        spec: dict[str, object] = {"interactive": False}
        if self.cluster is not None:
            spec["cluster"] = self.cluster
        info = {"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec}
        process = await asyncio.create_subprocess_exec(
            *self.command,
            env={**os.environ, **self.environment, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(_EXEC_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            raise ValueError(f"{self.command[0]!r} took over {_EXEC_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return self._parse_output(process.returncode or 0, output)

    def _parse_output(self, code: int, output: bytes) -> dict[str, object]:
        # The output may hold a token: it is never part of an error.
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            status = json.loads(output).get("status")
            if code == 0 and isinstance(status, dict):
                return status
        raise ValueError(f"{self.command[0]!r} ended with {code} and printed no ExecCredential")


def _parse_timestamp(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except OverflowError as error:
        raise ValueError(f"expirationTimestamp {text!r} is out of range") from error
