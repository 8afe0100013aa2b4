"""The command line: what can be said, and who does it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from nacos_client import NacosClient, NacosError

from . import configs, services
from .screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Action = Callable[[NacosClient, Screen, argparse.Namespace], int]

__all__ = ("parser", "run")

EPILOG = """\
The server, user and password are read from NACOS_SERVER_ADDR, NACOS_USERNAME and NACOS_PASSWORD.
The password has no option, so that it shows in no process list.
"""


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say; the exit code."""
    said = parser().parse_args(arguments)
    screen = Screen(as_json=said.json)
    options: dict[str, Any] = {
        name: value
        for name in ("username", "namespace", "group")
        if (value := getattr(said, name)) is not None
    }
    if "interval" in said:
        options |= {
            "config_poll_seconds": said.interval,
            "instance_poll_seconds": said.interval,
        }
    try:
        with NacosClient(said.server, **options) as nacos:
            action: Action = said.action
            return action(nacos, screen, said)
    except (NacosError, OSError) as error:
        sys.stderr.write(f"nacos: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Everything that can be said."""
    root = argparse.ArgumentParser(
        prog="nacos", description="Configuration and services of a Nacos 3 server.", epilog=EPILOG
    )
    root.add_argument("--server", metavar="HOST:PORT", help="one or more, separated by commas")
    root.add_argument("--username")
    root.add_argument("-n", "--namespace", help="the namespace's id (default: public)")
    root.add_argument("-g", "--group", help="default: DEFAULT_GROUP; for lists: any")
    root.add_argument("--json", action="store_true", help="one JSON document per line")
    areas = root.add_subparsers(required=True, metavar="AREA")
    _config(areas.add_parser("config", help="documents").add_subparsers(required=True))
    _service(areas.add_parser("service", help="services").add_subparsers(required=True))
    _instance(areas.add_parser("instance", help="instances").add_subparsers(required=True))
    namespace = areas.add_parser("namespace", help="namespaces").add_subparsers(required=True)
    _leaf(namespace, "ls", services.namespaces)
    _leaf(areas, "status", services.status)
    return root


def _leaf(subparsers: Any, name: str, action: Action) -> argparse.ArgumentParser:
    summary = (action.__doc__ or "").strip()
    leaf: argparse.ArgumentParser = subparsers.add_parser(name, help=summary, description=summary)
    leaf.set_defaults(action=action)
    return leaf


def _config(area: Any) -> None:
    _leaf(area, "ls", configs.search).add_argument("pattern", nargs="?", default="")
    _document(area, "get", configs.get)
    leaf = _document(area, "set", configs.publish)
    leaf.add_argument("file", nargs="?", default="-", help="- is standard input")
    leaf.add_argument("--type", help="text, json, xml, yaml, html, properties or toml")
    leaf.add_argument("--if-md5", metavar="MD5", help="only on top of this version")
    _document(area, "edit", configs.edit)
    leaf = _document(area, "diff", configs.compare)
    leaf.add_argument("file", nargs="?")
    leaf.add_argument("--version", metavar="ID")
    leaf.add_argument("--with-namespace", metavar="ID")
    _document(area, "history", configs.history)
    _document(area, "rollback", configs.rollback).add_argument("version")
    _watching(_document(area, "watch", configs.watch))
    leaf = _leaf(area, "export", configs.export)
    leaf.add_argument("file")
    leaf.add_argument("pattern", nargs="?", default="")
    leaf = _leaf(area, "import", configs.import_)
    leaf.add_argument("file")
    leaf.add_argument("--policy", choices=("abort", "skip", "overwrite"), default="abort")


def _document(area: Any, name: str, action: Action) -> argparse.ArgumentParser:
    leaf = _leaf(area, name, action)
    leaf.add_argument("data_id")
    return leaf


def _service(area: Any) -> None:
    _leaf(area, "ls", services.services).add_argument("pattern", nargs="?", default="")
    _leaf(area, "show", services.show).add_argument("service")
    leaf = _leaf(area, "watch", services.watch)
    leaf.add_argument("service")
    _watching(leaf)


def _watching(leaf: argparse.ArgumentParser) -> None:
    leaf.add_argument("--count", type=int, default=-1, help="end after so many changes")
    leaf.add_argument("--interval", type=float, default=1.0, help="seconds between two looks")


def _instance(area: Any) -> None:
    for name, action in (("register", services.register), ("deregister", services.deregister)):
        leaf = _leaf(area, name, action)
        leaf.add_argument("service")
        leaf.add_argument("address", metavar="IP:PORT")
        leaf.add_argument("--cluster", default="DEFAULT")
        leaf.add_argument("--persistent", action="store_true", help="does not need to beat")
        if action is services.register:
            leaf.add_argument("--weight", type=float, default=1.0)
            leaf.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE")
            leaf.add_argument("--seconds", type=float, help="how long to beat (default: for ever)")
