"""The command `lite-registry`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .errors import LiteRegistryError, SettingsError
from .file_limit import raise_file_limit
from .file_source import FileRoutes, StaticRoutes, read_route_file
from .http_reader import Limits
from .lease_store import LeaseStore
from .memory_store import MemoryStore
from .no_store import NoStore
from .self_preservation import SelfPreservation
from .server import LiteRegistryServer, RouteSource
from .settings import OPTIONS, resolve_settings
from .tokens import TokenFile, Tokens, TokenSource

if TYPE_CHECKING:
    # Imported where it is used: a server without Kubernetes does not need the memory for it.
    from .kubernetes.access import ApiServer

__all__ = ("ServeSettings", "build_parser", "main")

logger = logging.getLogger(__name__)

_DEFAULT_URL = "http://127.0.0.1:8080"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    0 = success, 1 = a check found something missing, 2 = a setting or the environment is wrong.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = build_parser().parse_args(words or ["serve"])
    try:
        return int(asyncio.run(options.run(options)) or 0)
    except LiteRegistryError as error:
        print(f"lite-registry: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="lite-registry",
        description="A small registry: leased instances over HTTP, lane routes from a file or from "
        "Kubernetes. Without a command, it serves.",
        epilog="Each setting is a flag, a variable LITE_REGISTRY_… and a key of the TOML file; the "
        "first one that is set counts, in this order.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON documents")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the server")
    serve.set_defaults(run=_run_serve)
    check = commands.add_parser(
        "check", help="check what is reachable and which permissions are missing"
    )
    check.set_defaults(run=_run_check)
    for command in (serve, check):
        _add_settings(command)
    route = commands.add_parser("route", help="lane routes of a running server: list, get")
    verbs = route.add_subparsers(required=True, metavar="VERB")
    _add_show(verbs, "list", "routes", "show every route")
    _add_show(verbs, "get", "routes", "show one service's route", is_service_required=True)
    instance = commands.add_parser("instance", help="leased instances of a running server: list")
    verbs = instance.add_subparsers(required=True, metavar="VERB")
    text = "show the instances of a service, or every service with its count"
    _add_show(verbs, "list", "instances", text)
    # The spellings of earlier versions.
    _add_show(commands, "routes", "routes", "the same as `route list`, or `route get SERVICE`")
    _add_show(commands, "instances", "instances", "the same as `instance list`")
    commands.add_parser("version", help="print the version").set_defaults(run=_print_version)
    return parser


def _add_show(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    kind: str,
    text: str,
    *,
    is_service_required: bool = False,
) -> None:
    command = commands.add_parser(name, help=text)
    command.add_argument("service", nargs=None if is_service_required else "?")
    url = os.environ.get("LITE_REGISTRY_URL", _DEFAULT_URL)
    command.add_argument("--url", default=url, help=f"the server's address ({_DEFAULT_URL})")
    # Without a default of its own, which would overwrite a --json before the command.
    command.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print the JSON document"
    )
    command.set_defaults(run=_run_show, kind=kind)


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    for option in OPTIONS:
        default = f" ({option.default})" if option.default not in {None, "", (), False} else ""
        if option.switch:
            command.add_argument(
                f"--{option.name}", action="store_const", const="true", help=option.help
            )
        else:
            metavar = "|".join(option.choices) or option.key.rpartition("_")[2].upper()
            command.add_argument(f"--{option.name}", metavar=metavar, help=option.help + default)


class ServeSettings:
    """The resolved settings, and the objects they describe."""

    def __init__(self, options: argparse.Namespace) -> None:
        # The one place where settings lose their types: each option has its own parser.
        values: dict[str, Any] = resolve_settings(vars(options), os.environ, options.config)
        self.values = values
        if values["namespace"] and values["all_namespaces"]:
            raise SettingsError("--namespace and --all-namespaces exclude each other; give one")

    def create_tokens(self) -> TokenSource:
        """The tokens that allow writing."""
        if self.values["token_file"] is not None:
            return TokenFile(self.values["token_file"])
        tokens = os.environ.get("LITE_REGISTRY_TOKEN", "")
        return Tokens(tokens.replace(",", " ").split())

    def create_source(self) -> RouteSource:
        """Where lane routes come from."""
        kind, file = self.values["source"], self.values["file"]
        if kind == "kubernetes":
            return self._create_kubernetes_source()
        if kind == "file":
            if file is None:
                raise SettingsError("--source file needs --file PATH")
            return FileRoutes(file)
        return StaticRoutes(read_route_file(file)) if file else StaticRoutes()

    def _create_kubernetes_source(self) -> RouteSource:
        from .kubernetes.source import KubernetesRoutes

        return KubernetesRoutes(
            api := self.create_api_server(),
            namespaces=() if self.values["all_namespaces"] else self.get_namespaces(api),
            app_label=self.values["app_label"],
            lane_label=self.values["lane_label"],
            grace_seconds=self.values["grace"],
        )

    def create_api_server(self) -> ApiServer:
        """Access to the cluster."""
        from .kubernetes.access import read_service_account
        from .kubernetes.kubeconfig import read_kubeconfig

        kubeconfig = self.values["kubeconfig"]
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
            kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
        if kubeconfig is not None:
            return read_kubeconfig(kubeconfig, context=self.values["context"])
        return read_service_account(os.environ)

    def get_namespaces(self, api: ApiServer) -> tuple[str, ...]:
        """The namespaces to watch."""
        return cast("tuple[str, ...]", self.values["namespace"]) or (api.namespace,)

    def create_limits(self) -> Limits:
        """How much one client may take, within what this process may open."""
        limits = Limits(
            connections=self.values["max_connections"],
            connections_per_client=self.values["max_connections_per_client"],
        )
        allowed = raise_file_limit(limits.connections + limits.reserved_connections)
        if allowed < limits.connections + limits.reserved_connections:
            logger.warning(
                "this process may open %d connections, fewer than --max-connections %d; raise its "
                "limit of open files (ulimit -n, LimitNOFILE)",
                allowed,
                limits.connections,
            )
            limits = replace(limits, connections=max(1, allowed - limits.reserved_connections))
        return limits

    def create_store(self) -> LeaseStore:
        """Where leases are kept."""
        preservation = SelfPreservation(share=self.values["preserve_share"])
        url, capacity = self.values["store"], self.values["capacity"]
        if url == "none":
            return NoStore()
        if url == "memory":
            return MemoryStore(capacity=capacity, preservation=preservation)
        try:
            from .redis_store import RedisStore
        except ImportError as error:
            raise SettingsError(
                '--store on Redis needs a package: pip install "lite-registry[redis]"'
            ) from error
        return RedisStore(url, capacity=capacity, preservation=preservation)


async def _run_serve(options: argparse.Namespace) -> None:
    settings = ServeSettings(options)
    values = settings.values
    logging.basicConfig(
        level=values["log_level"].upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    server = LiteRegistryServer(
        values["host"],
        port=values["port"],
        source=settings.create_source(),
        store=settings.create_store(),
        tokens=settings.create_tokens(),
        insecure=values["insecure"],
        limits=settings.create_limits(),
        snapshot=values["snapshot"],
        linger_seconds=values["linger"],
    )
    loop, is_stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, is_stopped.set)
    async with server:
        print(f"lite-registry listens on {server.url}", flush=True)  # noqa: T201
        await is_stopped.wait()


async def _run_check(options: argparse.Namespace) -> int:
    from .check import run_checks

    settings = ServeSettings(options)
    settings.create_tokens()
    api = settings.create_api_server() if settings.values["source"] == "kubernetes" else None
    if api is None:
        settings.create_source()
        namespaces: tuple[str, ...] = ()
    else:
        is_everything = settings.values["all_namespaces"]
        namespaces = ("",) if is_everything else settings.get_namespaces(api)
    findings = await run_checks(api, namespaces, str(settings.values["store"]))
    for finding in findings:
        print(finding)  # noqa: T201
    return int(not all(finding.ok for finding in findings))


async def _run_show(options: argparse.Namespace) -> int:
    from .show import fetch_lines

    lines = await fetch_lines(options.url, options.kind, options.service, as_json=options.json)
    print("\n".join(lines))  # noqa: T201
    return 0


async def _print_version(_: argparse.Namespace) -> None:
    print(version("lite-registry"))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
