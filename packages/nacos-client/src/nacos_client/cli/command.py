"""The command line: its options and the functions that perform them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from nacos_client import NacosClient, NacosError

from . import configs, services
from .screen import Screen

__all__ = ("build_parser", "run")

Action = Callable[[NacosClient, Screen, argparse.Namespace], int]

_EPILOG = """\
The server, user and password are read from NACOS_SERVER_ADDR, NACOS_USERNAME and NACOS_PASSWORD.
The password has no option, so that no process list shows it.
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options = build_parser().parse_args(arguments)
    screen = Screen(as_json=options.json)
    settings: dict[str, Any] = {
        name: value
        for name in ("username", "namespace", "group")
        if (value := getattr(options, name)) is not None
    }
    if "interval" in options:
        settings |= {
            "config_poll_seconds": options.interval,
            "instance_poll_seconds": options.interval,
        }
    try:
        with NacosClient(options.server, **settings) as nacos:
            action: Action = options.action
            return action(nacos, screen, options)
    except (NacosError, OSError) as error:
        sys.stderr.write(f"nacos: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    root = argparse.ArgumentParser(
        prog="nacos", description="Configuration and services of a Nacos 3 server.", epilog=_EPILOG
    )
    _add_general_options(root)
    root.set_defaults(server=None, username=None, namespace=None, group=None, json=False)
    areas = root.add_subparsers(required=True, metavar="AREA")
    _add_config(_add_area(areas, "config", "documents"))
    _add_service(_add_area(areas, "service", "services"))
    _add_instance(_add_area(areas, "instance", "instances"))
    _add_command(_add_area(areas, "namespace", "namespaces"), "ls", services.namespaces)
    _add_command(areas, "status", services.status)
    return root


def _add_general_options(parser: argparse.ArgumentParser) -> None:
    """The options that may stand anywhere: before the area, after it, and after the command."""
    group = parser.add_argument_group("options of every command")
    # Without a default here, what stands before the area outlives the parsers behind it.
    for names, settings in (
        (("--server",), {"metavar": "HOST:PORT", "help": "one or more, separated by commas"}),
        (("--username",), {}),
        (("-n", "--namespace"), {"help": "the namespace's id (default: public)"}),
        (("-g", "--group"), {"help": "default: DEFAULT_GROUP; for lists: any"}),
        (("--json",), {"action": "store_true", "help": "one JSON document per line"}),
    ):
        options: dict[str, Any] = {"default": argparse.SUPPRESS, **settings}
        group.add_argument(*names, **options)


def _add_area(areas: Any, name: str, summary: str) -> Any:
    area: argparse.ArgumentParser = areas.add_parser(name, help=summary)
    _add_general_options(area)
    return area.add_subparsers(required=True)


_ALIASES = {"ls": ("list",), "set": ("publish",)}


def _add_command(subparsers: Any, name: str, action: Action) -> argparse.ArgumentParser:
    summary = (action.__doc__ or "").strip()
    leaf: argparse.ArgumentParser = subparsers.add_parser(
        name, aliases=_ALIASES.get(name, ()), help=summary, description=summary
    )
    _add_general_options(leaf)
    leaf.set_defaults(action=action)
    return leaf


def _add_config(area: Any) -> None:
    _add_command(area, "ls", configs.search).add_argument("pattern", nargs="?", default="")
    _add_document_command(area, "get", configs.get)
    leaf = _add_document_command(area, "set", configs.publish)
    leaf.add_argument("file", nargs="?", default="-", help="- is standard input")
    leaf.add_argument("--type", help="text, json, xml, yaml, html, properties or toml")
    leaf.add_argument("--if-md5", metavar="MD5", help="only on top of this version")
    _add_document_command(area, "edit", configs.edit)
    leaf = _add_document_command(area, "diff", configs.compare)
    leaf.add_argument("file", nargs="?")
    leaf.add_argument("--version", metavar="ID")
    leaf.add_argument("--with-namespace", metavar="ID")
    _add_document_command(area, "history", configs.history)
    _add_document_command(area, "rollback", configs.rollback).add_argument("version")
    _add_watch_options(_add_document_command(area, "watch", configs.watch))
    leaf = _add_command(area, "export", configs.export)
    leaf.add_argument("file")
    leaf.add_argument("pattern", nargs="?", default="")
    leaf = _add_command(area, "import", configs.import_)
    leaf.add_argument("file")
    leaf.add_argument("--policy", choices=("abort", "skip", "overwrite"), default="abort")


def _add_document_command(area: Any, name: str, action: Action) -> argparse.ArgumentParser:
    leaf = _add_command(area, name, action)
    leaf.add_argument("data_id")
    return leaf


def _add_service(area: Any) -> None:
    _add_command(area, "ls", services.services).add_argument("pattern", nargs="?", default="")
    _add_command(area, "show", services.show).add_argument("service")
    leaf = _add_command(area, "watch", services.watch)
    leaf.add_argument("service")
    _add_watch_options(leaf)


def _add_watch_options(leaf: argparse.ArgumentParser) -> None:
    leaf.add_argument("--count", type=int, default=-1, help="number of changes after which to end")
    leaf.add_argument("--interval", type=float, default=1.0, help="seconds between two polls")


def _add_instance(area: Any) -> None:
    for name, action in (("register", services.register), ("deregister", services.deregister)):
        leaf = _add_command(area, name, action)
        leaf.add_argument("service")
        leaf.add_argument("address", metavar="IP:PORT")
        leaf.add_argument("--cluster", default="DEFAULT")
        leaf.add_argument("--persistent", action="store_true", help="needs no heartbeat")
        if action is services.register:
            leaf.add_argument("--weight", type=float, default=1.0)
            leaf.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE")
            leaf.add_argument(
                "--seconds",
                type=float,
                help="how long to keep it alive (default: until interrupted)",
            )
