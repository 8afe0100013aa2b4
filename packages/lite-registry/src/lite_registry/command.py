"""The command `lite-registry`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import LiteRegistryError, SettingsError
from .file_source import FileRoutes, StaticRoutes, read_route_file
from .server import LiteRegistryServer, RouteSource
from .tokens import Tokens, read_token_file

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code: 0 after an orderly end, 2 for a wrong setting."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_serve(_server(options)))
    except LiteRegistryError as error:
        print(f"lite-registry: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lite-registry",
        description="A small registry: leased instances over HTTP, lane routes from a file.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the server")
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8080, help="0 = any free one (8080)")
    serve.add_argument(
        "--source",
        choices=("static", "file"),
        default="static",
        help="where lane routes come from: a file read once (or none), or a file that is watched",
    )
    serve.add_argument("--file", type=Path, help="the route file, JSON or YAML")
    serve.add_argument("--token-file", type=Path, help="bearer tokens for writing, one per line")
    serve.add_argument(
        "--insecure",
        action="store_true",
        help="listen on other addresses than loopback without a token",
    )
    return parser


def _server(options: argparse.Namespace) -> LiteRegistryServer:
    if not 0 <= options.port <= 65535:
        raise SettingsError(f"--port must be a number from 0 to 65535, not {options.port}")
    return LiteRegistryServer(
        options.host,
        port=options.port,
        source=_source(options.source, options.file),
        tokens=_tokens(options.token_file),
        insecure=options.insecure,
    )


def _source(kind: str, file: Path | None) -> RouteSource:
    if kind == "file":
        if file is None:
            raise SettingsError("--source file needs --file PATH")
        return FileRoutes(file)
    return StaticRoutes(read_route_file(file)) if file else StaticRoutes()


def _tokens(file: Path | None) -> Tokens:
    if file is not None:
        return read_token_file(file)
    return Tokens(os.environ.get("LITE_REGISTRY_TOKEN", "").replace(",", " ").split())


async def _serve(server: LiteRegistryServer) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server:
        print(f"lite-registry listens on {server.url}", flush=True)  # noqa: T201
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
