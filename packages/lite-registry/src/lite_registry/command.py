"""The command `lite-registry`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .errors import LiteRegistryError, SettingsError
from .file_source import FileRoutes, StaticRoutes, read_route_file
from .leases import SelfPreservation
from .memory_store import MemoryStore
from .no_store import NoStore
from .server import LiteRegistryServer, RouteSource
from .settings import OPTIONS, resolve
from .tokens import TokenFile, Tokens, TokenSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .api import LeaseStore
    from .kubernetes.access import ApiServer

__all__ = ("main",)

DEFAULT_URL = "http://127.0.0.1:8080"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code: 0 = fine, 1 = what was asked is not so, 2 = cannot start."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given or ["serve"])
    try:
        return int(asyncio.run(options.run(options)) or 0)
    except LiteRegistryError as error:
        print(f"lite-registry: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lite-registry",
        description="A small registry: leased instances over HTTP, lane routes from a file or from "
        "Kubernetes. Without a command, it serves.",
        epilog="Each setting is a flag, a variable LITE_REGISTRY_… and a key of the TOML file; the "
        "first that is there counts, in this order.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the server")
    serve.set_defaults(run=_serve)
    check = commands.add_parser("check", help="say what can be reached and what is missing")
    check.set_defaults(run=_check)
    for command in (serve, check):
        _add_settings(command)
    routes = commands.add_parser("routes", help="show the lane routes of a running server")
    routes.add_argument("service", nargs="?", help="only this one")
    routes.set_defaults(run=_show)
    instances = commands.add_parser("instances", help="show the leased instances of a service")
    instances.add_argument("service", nargs="?", help="without it, every service with its count")
    instances.set_defaults(run=_show)
    for command in (routes, instances):
        url = os.environ.get("LITE_REGISTRY_URL", DEFAULT_URL)
        command.add_argument("--url", default=url, help=f"the server's address ({DEFAULT_URL})")
        command.add_argument("--json", action="store_true", help="print the document as it is")
    commands.add_parser("version", help="print the version").set_defaults(run=_version)
    return parser


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    for option in OPTIONS:
        default = f" ({option.default})" if option.default not in {None, "", (), False} else ""
        if option.switch:
            command.add_argument(
                f"--{option.name}", action="store_const", const="true", help=option.told
            )
        else:
            metavar = "|".join(option.choices) or option.key.rpartition("_")[2].upper()
            command.add_argument(f"--{option.name}", metavar=metavar, help=option.told + default)


class _Settings:
    """The resolved settings, with their types."""

    def __init__(self, options: argparse.Namespace) -> None:
        # The one place where settings lose their types: each option has a parser of its own.
        values: dict[str, Any] = resolve(vars(options), os.environ, options.config)
        self.values = values
        if values["namespace"] and values["all_namespaces"]:
            raise SettingsError("--namespace and --all-namespaces exclude each other; give one")

    def tokens(self) -> TokenSource:
        if self.values["token_file"] is not None:
            return TokenFile(self.values["token_file"])
        given = os.environ.get("LITE_REGISTRY_TOKEN", "")
        return Tokens(given.replace(",", " ").split())

    def source(self) -> RouteSource:
        kind, file = self.values["source"], self.values["file"]
        if kind == "kubernetes":
            return self._kubernetes()
        if kind == "file":
            if file is None:
                raise SettingsError("--source file needs --file PATH")
            return FileRoutes(file)
        return StaticRoutes(read_route_file(file)) if file else StaticRoutes()

    def _kubernetes(self) -> RouteSource:
        from .kubernetes.source import KubernetesRoutes

        return KubernetesRoutes(
            api := self.api_server(),
            namespaces=() if self.values["all_namespaces"] else self.namespaces(api),
            app_label=self.values["app_label"],
            lane_label=self.values["lane_label"],
            grace_seconds=self.values["grace"],
        )

    def api_server(self) -> ApiServer:
        from .kubernetes.access import in_cluster, read_kubeconfig

        kubeconfig = self.values["kubeconfig"]
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
            kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
        if kubeconfig is not None:
            return read_kubeconfig(kubeconfig, context=self.values["context"])
        return in_cluster(os.environ)

    def namespaces(self, api: ApiServer) -> tuple[str, ...]:
        return cast("tuple[str, ...]", self.values["namespace"]) or (api.namespace,)

    def store(self) -> LeaseStore:
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


async def _serve(options: argparse.Namespace) -> None:
    settings = _Settings(options)
    values = settings.values
    logging.basicConfig(
        level=values["log_level"].upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    server = LiteRegistryServer(
        values["host"],
        port=values["port"],
        source=settings.source(),
        store=settings.store(),
        tokens=settings.tokens(),
        insecure=values["insecure"],
        snapshot=values["snapshot"],
        linger_seconds=values["linger"],
    )
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server:
        print(f"lite-registry listens on {server.url}", flush=True)  # noqa: T201
        await stop.wait()


async def _check(options: argparse.Namespace) -> int:
    from .check import check

    settings = _Settings(options)
    settings.tokens()
    api = settings.api_server() if settings.values["source"] == "kubernetes" else None
    if api is None:
        settings.source()
        namespaces: tuple[str, ...] = ()
    else:
        all_of_them = settings.values["all_namespaces"]
        namespaces = ("",) if all_of_them else settings.namespaces(api)
    findings = await check(api, namespaces, str(settings.values["store"]))
    for finding in findings:
        print(finding)  # noqa: T201
    return int(not all(finding.good for finding in findings))


async def _show(options: argparse.Namespace) -> int:
    from .show import show

    lines = await show(options.url, options.command, options.service, as_json=options.json)
    print("\n".join(lines))  # noqa: T201
    return 0


async def _version(_: argparse.Namespace) -> None:
    print(version("lite-registry"))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
