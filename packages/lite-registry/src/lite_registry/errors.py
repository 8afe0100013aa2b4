"""Errors of the server: one tree, each message ends with what to do.

LiteRegistryError
├── SettingsError          a flag, variable, key or file is wrong; nothing was started
│   └── DocumentError      a file that somebody wrote cannot be read
├── AddressInUseError      the port is taken
└── Problem                a request that fails, as a problem document of RFC 9457
"""

from __future__ import annotations

__all__ = ("AddressInUseError", "DocumentError", "LiteRegistryError", "Problem", "SettingsError")


class LiteRegistryError(Exception):
    """The root of the errors of lite-registry."""


class SettingsError(LiteRegistryError, ValueError):
    """A setting, or a file named by a setting, is wrong; nothing was started."""


class DocumentError(SettingsError):
    """A file that somebody wrote is not of its format, or exceeds a bound.

    Attributes:
        document: its name, such as the path of a file.
        rule: what it must be, or have; nothing that it holds is quoted.
        line: the number of the line, from 1; None = it is not known.
    """

    def __init__(self, document: str, rule: str, line: int | None = None) -> None:
        place = document if line is None else f"{document}, line {line}"
        super().__init__(f"{place}: it {rule}; correct the document")
        self.document = document
        self.rule = rule
        self.line = line

    def __reduce__(self) -> tuple[type[DocumentError], tuple[str, str, int | None]]:
        return type(self), (self.document, self.rule, self.line)


class AddressInUseError(LiteRegistryError, OSError):
    """Another program listens on the address."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} is taken by another program; stop it or choose another --port"
        )
        self.host = host
        self.port = port


class Problem(LiteRegistryError):  # noqa: N818  (the term of RFC 9457)
    """A request that fails, and the problem document that says why.

    Attributes:
        status: the HTTP status.
        title: the same for all problems of this kind.
        detail: what is wrong with this request, and what to do.
        extra: members added to the document.
        headers: header fields added to the response.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        extra: dict[str, object] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.extra = extra or {}
        self.headers = headers
