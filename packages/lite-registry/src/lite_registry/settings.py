"""Settings of the command: flags, then the environment, then a TOML file, then the defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError

__all__ = ("OPTIONS", "Option", "resolve")

PREFIX = "LITE_REGISTRY_"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting, wherever it comes from.

    Attributes:
        name: of the flag without `--`; `LITE_REGISTRY_NAME` and the TOML key follow from it.
        parse: makes the value from text, or raises ValueError.
        default: the value when nobody says.
        told: the help text.
        rule: what a good value is, for the error message.
        switch: a flag without a value.
        choices: the only good values.
    """

    name: str
    parse: Callable[[str], object]
    default: object
    told: str
    rule: str = "a text"
    switch: bool = False
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The TOML key and the attribute."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.key.upper()


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise ValueError(text)
    return share


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise ValueError(text)
    return seconds


def _switch(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0", ""}:
        raise ValueError(text)
    return text.lower() in {"true", "1"}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


_SECONDS = "a number of seconds from 0 to 86400"

OPTIONS = (
    Option("host", str, "127.0.0.1", "where to listen"),
    Option("port", _port, 8080, "0 = any free one", "a number from 0 to 65535"),
    Option(
        "source",
        str,
        "static",
        "where lane routes come from: a file read once (or none), a watched file, a cluster",
        choices=("static", "file", "kubernetes"),
    ),
    Option("file", Path, None, "the route file, JSON or YAML"),
    Option("kubeconfig", Path, None, "access to the cluster; without it, the pod's own account"),
    Option("context", str, "", "the kubeconfig's context; without it, the current one"),
    Option("namespace", _names, (), "the namespaces to watch, with commas between"),
    Option("all-namespaces", _switch, False, "watch every namespace", "true or false", switch=True),
    Option("app-label", str, "app", "the label that names a Service's service"),
    Option("lane-label", str, "lane", "the label that names a Service's lane"),
    Option("grace", _seconds, 10.0, "how long a lane stays without a ready endpoint", _SECONDS),
    Option("snapshot", Path, None, "a file to keep what is served across restarts"),
    Option("store", str, "memory", "where leases are kept: memory, redis://host:port/db, or none"),
    Option("capacity", _count, 50_000, "the most leased instances", "a whole number of at least 1"),
    Option(
        "preserve-share",
        _share,
        0.3,
        "keep lapsed leases when a larger share of all lapses at once; 1 = never",
        "a number above 0, at most 1",
    ),
    Option("token-file", Path, None, "bearer tokens for writing, one per line"),
    Option(
        "insecure",
        _switch,
        False,
        "listen on other addresses than loopback without a token",
        "true or false",
        switch=True,
    ),
    Option("linger", _seconds, 1.0, "how long to say 503 on /readyz before the end", _SECONDS),
    Option("log-level", str, "info", "what to log", choices=("debug", "info", "warning", "error")),
)


def resolve(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None
) -> dict[str, object]:
    """The value of every option: flag, else variable, else key of the TOML file, else default.

    Raises:
        SettingsError: naming the flag, variable or key, its value and the rule.
    """
    written = _read(file) if file else {}
    return {option.key: _value(option, flags, environment, written, file) for option in OPTIONS}


def _value(
    option: Option,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    written: Mapping[str, str],
    file: Path | None,
) -> object:
    for where, value in (
        (f"--{option.name}", flags.get(option.key)),
        (option.variable, environment.get(option.variable)),
        (f"{option.key} in {file}", written.get(option.key)),
    ):
        if value is not None:
            return _checked(option, where, value)
    return option.default


def _checked(option: Option, where: str, value: str) -> object:
    rule = f"one of {', '.join(option.choices)}" if option.choices else option.rule
    if not option.choices or value in option.choices:
        try:
            return option.parse(value)
        except ValueError:
            pass
    raise SettingsError(f"{where} must be {rule}, not {value!r}")


def _read(file: Path) -> dict[str, str]:
    try:
        written = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"settings file {str(file)!r} cannot be read: {error}") from error
    known = {option.key for option in OPTIONS}
    for key, value in written.items():
        if key not in known:
            raise SettingsError(
                f"settings file {str(file)!r}: there is no setting {key!r}; "
                f"known are {', '.join(sorted(known))}"
            )
        if isinstance(value, dict):
            raise SettingsError(f"settings file {str(file)!r}: {key} must be one value, no table")
    return {key: _as_text(value) for key, value in written.items()}


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
