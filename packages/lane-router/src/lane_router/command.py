"""The command `lane-router`: shows the route table, and where a request would go."""

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
    """Run the command.

    Returns:
        the exit code: 0 = success; 1 = there is no such lane, service or matching rule; 2 = wrong
        usage, or no route table.
    """
    options = _make_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (LaneError, ValueError) as error:
        print(f"lane-router: {error}", file=sys.stderr)  # noqa: T201 - the command's output
        return 2
    except KeyboardInterrupt:
        return 130


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lane-router", description="Show the route table, and where a request would go."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    table = commands.add_parser("table", help="print the route table")
    table.set_defaults(run=_print_table)
    resolve = commands.add_parser("resolve", help="print where a service is reached for a lane")
    resolve.set_defaults(run=_resolve)
    explain = commands.add_parser(
        "explain", help="explain a resolution, or why a colouring rule matched"
    )
    explain.set_defaults(run=_explain)
    watch = commands.add_parser("watch", help="print each change of the route table")
    watch.add_argument(
        "--changes", type=int, default=0, help="exit after this many changes (0 = never)"
    )
    watch.set_defaults(run=_watch)
    for command in (resolve, explain):
        command.add_argument("service", nargs="?" if command is explain else None)
        command.add_argument("lane", nargs="?")
        command.add_argument("--mode", choices=("permissive", "strict"), default="permissive")
        command.add_argument(
            "--port", type=int, default=0, help="a port other than the one the scheme chooses"
        )
        command.add_argument("--scheme", choices=("http", "https"), default="http")
    for command in (table, resolve, explain, watch):
        url = os.environ.get("LANE_ROUTER_URL", DEFAULT_URL)
        command.add_argument("--url", default=url, help=f"the registry's address ({DEFAULT_URL})")
        command.add_argument(
            "--timeout",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help="seconds to wait for the route table",
        )
    _add_request_options(explain)
    return parser


def _add_request_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rules", metavar="FILE", help="explain these colouring rules instead")
    command.add_argument("--method", default="GET")
    command.add_argument("--path", default="/")
    for name in ("header", "cookie", "query"):
        command.add_argument(f"--{name}", action="append", default=[], metavar="NAME=VALUE")


def _print_table(options: argparse.Namespace) -> int:
    with _open_router(options) as router:
        _print_rows(_table_rows(router.table))
        return 0


def _resolve(options: argparse.Namespace) -> int:
    with _open_router(options) as router:
        resolution = router.resolve(
            options.service, options.lane, port=options.port, scheme=options.scheme
        )
        header = f"x-lane: {resolution.lane}" if resolution.lane else "no lane"
        _print_rows([(resolution.url, resolution.outcome, header)])
        return 0 if resolution.in_mesh else 1


def _explain(options: argparse.Namespace) -> int:
    if options.rules:
        return _explain_rules(options)
    if not options.service:
        raise LaneError("explain needs a SERVICE, or --rules FILE; add one")
    with _open_router(options) as router:
        decision = router.explain(
            options.service, options.lane, port=options.port, scheme=options.scheme
        )
        _print_rows(
            [
                ("outcome", decision.outcome),
                ("host", decision.host),
                ("port", str(decision.port or "as requested")),
                ("x-lane", decision.lane or "not sent"),
                ("reason", decision.reason),
            ]
        )
        return 0 if decision.outcome not in {"foreign", "strict_miss"} else 1


def _explain_rules(options: argparse.Namespace) -> int:
    from .colouring.conditions import GatewayRequest
    from .colouring.live_rules import RuleFile

    headers = {name.lower(): value for name, value in _parse_pairs(options.header).items()}
    request = GatewayRequest(
        options.method,
        options.path,
        headers,
        _parse_pairs(options.query),
        _parse_pairs(options.cookie),
    )
    explanation = RuleFile(options.rules).explain(request)
    steps = [(step.rule, step.reason or "applies") for step in explanation.steps]
    _print_rows([("RULE", "VERDICT"), *steps])
    print(f"lane: {explanation.lane or 'none'}")  # noqa: T201 - the command's output
    return 0 if explanation.lane else 1


def _watch(options: argparse.Namespace) -> int:
    from queue import SimpleQueue

    # The poller's thread puts, this one prints.
    tables: SimpleQueue[RouteTable] = SimpleQueue()
    with _open_router(options) as router:
        before = set(_table_rows(router.table)[1:])
        print(f"watching {options.url}: {len(before)} routes", flush=True)  # noqa: T201 - output
        router.subscribe(tables.put)
        changes = 0
        while True:
            after = set(_table_rows(tables.get())[1:])
            for row in sorted(before - after):
                print("-", *row, flush=True)  # noqa: T201 - the command's output
            for row in sorted(after - before):
                print("+", *row, flush=True)  # noqa: T201 - the command's output
            changes += after != before
            before = after
            if options.changes and changes >= options.changes:
                return 0


def _open_router(options: argparse.Namespace) -> LaneRouter:
    """A started router; with a table, so that the first answer is not `base_no_table`."""
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


def _table_rows(table: RouteTable) -> list[Row]:
    """A row per base and lane, after one of headings."""
    rows: list[Row] = [("SERVICE", "LANE", "HOST", "PORT", "READY")]
    for name, route in sorted(table.services.items()):
        targets = [("(base)", route.base)] if route.base else []
        for lane, target in [*targets, *sorted(route.lanes.items())]:
            ready = "yes" if target.ready else "no"
            rows.append((name, lane, target.name, str(target.port), ready))
    return rows


def _print_rows(rows: Sequence[Row]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())  # noqa: T201 - the command's output


def _parse_pairs(options: Sequence[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    wrong = next((name for name, equals, _ in pairs if not equals), None)
    if wrong is not None:
        raise LaneError(f"{wrong!r} must have the form NAME=VALUE; correct it")
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main())
