"""The command `lane-router`: what the route table says, and where a request would go."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .context.lane_classes import check_mode
from .errors import LaneError

if TYPE_CHECKING:
    from .route_table.table import RouteTable
    from .routing.router import LaneRouter

__all__ = ("main",)

DEFAULT_URL = "http://127.0.0.1:8080"

Row = tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code: 0 = fine, 1 = what was asked is not so, 2 = wrong question."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (LaneError, ValueError) as error:
        print(f"lane-router: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lane-router", description="What the route table says, and where a request would go."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    table = commands.add_parser("table", help="print the route table")
    table.set_defaults(run=_table)
    resolve = commands.add_parser("resolve", help="print where a service is reached for a lane")
    resolve.set_defaults(run=_resolve)
    explain = commands.add_parser("explain", help="say why: of a service, or of colouring rules")
    explain.set_defaults(run=_explain)
    watch = commands.add_parser("watch", help="print each change of the route table")
    watch.add_argument("--changes", type=int, default=0, help="end after so many (0 = never)")
    watch.set_defaults(run=_watch)
    for command in (resolve, explain):
        command.add_argument("service", nargs="?" if command is explain else None)
        command.add_argument("lane", nargs="?")
        command.add_argument("--mode", choices=("permissive", "strict"), default="permissive")
        command.add_argument("--port", type=int, default=0, help="when it is not the main one")
    for command in (table, resolve, explain, watch):
        url = os.environ.get("LANE_ROUTER_URL", DEFAULT_URL)
        command.add_argument("--url", default=url, help=f"the registry's address ({DEFAULT_URL})")
        command.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS")
    _add_request(explain)
    return parser


def _add_request(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rules", metavar="FILE", help="explain these colouring rules instead")
    command.add_argument("--method", default="GET")
    command.add_argument("--path", default="/")
    for name in ("header", "cookie", "query"):
        command.add_argument(f"--{name}", action="append", default=[], metavar="NAME=VALUE")


def _table(options: argparse.Namespace) -> int:
    with _router(options) as router:
        _print(_rows(router.table))
        return 0


def _resolve(options: argparse.Namespace) -> int:
    with _router(options) as router:
        found = router.resolve(options.service, options.lane, port=options.port)
        told = f"x-lane: {found.lane}" if found.lane else "no lane is told"
        _print([(found.url, found.outcome, told)])
        return 0 if found.in_mesh else 1


def _explain(options: argparse.Namespace) -> int:
    if options.rules:
        return _explain_rules(options)
    if not options.service:
        raise LaneError("explain needs a SERVICE, or --rules FILE; give one")
    with _router(options) as router:
        told = router.explain(options.service, options.lane, port=options.port)
        _print([("outcome", told.outcome), ("host", told.host), ("port", str(told.port or "as asked")),
                ("told", told.lane or "no lane"), ("because", told.reason)])  # fmt: skip
        return 0 if told.outcome not in {"foreign", "strict_miss"} else 1


def _explain_rules(options: argparse.Namespace) -> int:
    from .colouring.conditions import GatewayRequest
    from .colouring.live_rules import RuleFile

    headers = {name.lower(): value for name, value in _pairs(options.header).items()}
    request = GatewayRequest(
        options.method, options.path, headers, _pairs(options.query), _pairs(options.cookie)
    )
    told = RuleFile(options.rules).explain(request)
    _print([("RULE", "VERDICT"), *((step.rule, step.reason or "applies") for step in told.steps)])
    print(f"lane: {told.lane or 'none'}")  # noqa: T201
    return 0 if told.lane else 1


def _watch(options: argparse.Namespace) -> int:
    from queue import SimpleQueue

    changed: SimpleQueue[RouteTable] = SimpleQueue()
    with _router(options) as router:
        before = set(_rows(router.table)[1:])
        print(f"watching {options.url}: {len(before)} routes", flush=True)  # noqa: T201
        router.on_change(changed.put)
        left = options.changes
        while True:
            after = set(_rows(changed.get())[1:])
            for row in sorted(before - after):
                print("-", *row, flush=True)  # noqa: T201
            for row in sorted(after - before):
                print("+", *row, flush=True)  # noqa: T201
            left -= after != before
            before = after
            if options.changes and left <= 0:
                return 0


def _router(options: argparse.Namespace) -> LaneRouter:
    from .routing.router import LaneRouter

    mode = check_mode(getattr(options, "mode", "permissive"))
    router = LaneRouter(options.url, mode=mode, timeout_seconds=options.timeout)
    router.start()
    if not router.wait_ready(options.timeout):
        router.close()
        raise LaneError(
            f"no route table from {options.url}: {router.problem}; check --url or LANE_ROUTER_URL"
        )
    return router


def _rows(table: RouteTable) -> list[Row]:
    rows: list[Row] = [("SERVICE", "LANE", "HOST", "PORT", "READY")]
    for name, route in sorted(table.services.items()):
        targets = [("(base)", route.base)] if route.base else []
        for lane, target in [*targets, *sorted(route.lanes.items())]:
            ready = "yes" if target.ready else "no"
            rows.append((name, lane, target.name, str(target.port), ready))
    return rows


def _print(rows: Sequence[Row]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())  # noqa: T201


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    wrong = next((name for name, equals, _ in pairs if not equals), None)
    if wrong is not None:
        raise LaneError(f"{wrong!r} must be NAME=VALUE; write it so")
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main())
