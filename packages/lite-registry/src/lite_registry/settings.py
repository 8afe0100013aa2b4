"""Settings of the command: flags, then the environment, then a TOML file, then the defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ._documents import parse_document
from .errors import SettingsError

__all__ = ("OPTIONS", "Option", "resolve_settings")

_PREFIX = "LITE_REGISTRY_"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting, wherever it comes from.

    Attributes:
        name: the flag without `--`; `LITE_REGISTRY_NAME` and the TOML key follow from it.
        parse: returns the value of a text, or raises ValueError.
        default: the value when it is not set.
        help: the text of `--help`.
        rule: what is legal, for the error message.
        switch: whether it is a flag without a value.
        choices: the only legal values; none means that `rule` decides.
    """

    name: str
    parse: Callable[[str], object]
    default: object
    help: str
    rule: str = "a text"
    switch: bool = False
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The TOML key, and the name of the parsed argument."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return _PREFIX + self.key.upper()


def _parse_port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _parse_count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def _parse_share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise ValueError(text)
    return share


def _parse_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise ValueError(text)
    return seconds


def _parse_switch(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0", ""}:
        raise ValueError(text)
    return text.lower() in {"true", "1"}


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


_SECONDS_RULE = "a number of seconds from 0 to 86400"

OPTIONS = (
    Option("host", str, "127.0.0.1", "where to listen"),
    Option(
        "port", _parse_port, 8080, "where to listen; 0 = any free port", "a number from 0 to 65535"
    ),
    Option(
        "source",
        str,
        "static",
        "where lane routes come from: a file read once (or none), a watched file, a cluster",
        choices=("static", "file", "kubernetes"),
    ),
    Option("file", Path, None, "the route file, JSON or YAML"),
    Option(
        "kubeconfig", Path, None, "access to the cluster; default: the service account of the pod"
    ),
    Option("context", str, "", "the context of the kubeconfig; default: its current one"),
    Option("namespace", _parse_names, (), "the namespaces to watch, separated by commas"),
    Option(
        "all-namespaces",
        _parse_switch,
        False,
        "watch every namespace",
        "true or false",
        switch=True,
    ),
    Option("app-label", str, "app", "the label with the name of the service"),
    Option("lane-label", str, "lane", "the label with the name of the lane"),
    Option(
        "grace",
        _parse_seconds,
        10.0,
        "seconds a lane is kept after its last ready endpoint is gone",
        _SECONDS_RULE,
    ),
    Option("snapshot", Path, None, "a file that keeps the served content across restarts"),
    Option("store", str, "memory", "where leases are kept: memory, redis://host:port/db, or none"),
    Option(
        "capacity",
        _parse_count,
        50_000,
        "the most leased instances",
        "a whole number of at least 1",
    ),
    Option(
        "max-connections",
        _parse_count,
        16_384,
        "the most open connections; probes and metrics have places of their own",
        "a whole number of at least 1",
    ),
    Option(
        "max-connections-per-client",
        _parse_count,
        None,
        "the most open connections of one client address; default: 7/8 of --max-connections",
        "a whole number of at least 1",
    ),
    Option(
        "preserve-share",
        _parse_share,
        0.3,
        "keep lapsed leases when more than this share of all lapses at once; 1 = never",
        "a number above 0, at most 1",
    ),
    Option("token-file", Path, None, "bearer tokens for writing, one per line"),
    Option(
        "insecure",
        _parse_switch,
        False,
        "listen on other addresses than loopback without a token",
        "true or false",
        switch=True,
    ),
    Option(
        "linger",
        _parse_seconds,
        1.0,
        "seconds to answer 503 on /readyz before shutting down",
        _SECONDS_RULE,
    ),
    Option("log-level", str, "info", "what to log", choices=("debug", "info", "warning", "error")),
)


def resolve_settings(
    flags: Mapping[str, str | None], environment: Mapping[str, str], file: Path | None
) -> dict[str, object]:
    """The value of every option: from its flag, variable, TOML key or default, in this order.

    Raises:
        SettingsError: with the flag, variable or key, its value and the rule it breaks.
    """
    from_file = _read_file(file) if file else {}
    return {
        option.key: _resolve_option(option, flags, environment, from_file, file)
        for option in OPTIONS
    }


def _resolve_option(
    option: Option,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    from_file: Mapping[str, str],
    file: Path | None,
) -> object:
    for origin, value in (
        (f"--{option.name}", flags.get(option.key)),
        (option.variable, environment.get(option.variable)),
        (f"{option.key} in {file}", from_file.get(option.key)),
    ):
        if value is not None:
            return _parse_value(option, origin, value)
    return option.default


def _parse_value(option: Option, origin: str, value: str) -> object:
    rule = f"one of {', '.join(option.choices)}" if option.choices else option.rule
    if not option.choices or value in option.choices:
        try:
            return option.parse(value)
        except ValueError:
            pass
    raise SettingsError(f"{origin} must be {rule}, not {value!r}")


def _read_file(file: Path) -> dict[str, str]:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"settings file {str(file)!r} cannot be read: {error}") from error
    name = f"settings file {str(file)!r}"
    content = cast("dict[str, object]", parse_document(raw, document_format="toml", name=name))
    keys = {option.key for option in OPTIONS}
    for key, value in content.items():
        if key not in keys:
            raise SettingsError(
                f"settings file {str(file)!r}: there is no setting {key!r}; "
                f"the settings are {', '.join(sorted(keys))}"
            )
        if isinstance(value, dict):
            raise SettingsError(
                f"settings file {str(file)!r}: {key} must be a single value, not a table"
            )
    return {key: _to_text(value) for key, value in content.items()}


def _to_text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
