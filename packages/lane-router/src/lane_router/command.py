"""The command `lane-router`: shows the route table, and where a request would go."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
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
        print(f"lane-router: {_escape_controls(str(error))}", file=sys.stderr)  # noqa: T201 - the command's output
        return 2
    except KeyboardInterrupt:
        return 130


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lane-router", description="Show the route table, and where a request would go."
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one document per line")
    areas = parser.add_subparsers(dest="area", required=True, metavar="COMMAND")
    route = areas.add_parser("route", help="routes: list, get, explain, watch")
    _add_verbs(route.add_subparsers(dest="verb", required=True, metavar="VERB"), _VERBS)
    # The spellings of earlier versions: `table` for `route list`, and so on.
    _add_verbs(areas, {"table": "list", "resolve": "get", "explain": "explain", "watch": "watch"})
    return parser


_VERBS = {"list": "list", "get": "get", "explain": "explain", "watch": "watch"}


def _add_verbs(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], names: Mapping[str, str]
) -> None:
    """Add parsers under these names, each of a verb of `route`."""
    add = {"list": _add_list, "get": _add_get, "explain": _add_explain, "watch": _add_watch}
    for name, verb in names.items():
        described = "" if names is _VERBS else f"the same as `route {verb}`"
        _add_common_options(add[verb](commands, name, described))


def _add_list(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, described: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=described or "print the route table")
    command.set_defaults(run=_print_table)
    return command


def _add_get(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, described: str
) -> argparse.ArgumentParser:
    text = described or "print where a service is reached for a lane"
    command = commands.add_parser(name, help=text)
    command.set_defaults(run=_resolve)
    _add_target_options(command)
    return command


def _add_explain(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, described: str
) -> argparse.ArgumentParser:
    text = described or "explain a resolution, or why a colouring rule matched"
    command = commands.add_parser(name, help=text)
    command.set_defaults(run=_explain)
    _add_target_options(command, is_service_required=False)
    _add_request_options(command)
    return command


def _add_watch(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, described: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=described or "print each change of the route table")
    command.set_defaults(run=_watch)
    command.add_argument(
        "--changes", type=int, default=0, help="exit after this many changes (0 = never)"
    )
    return command


def _add_target_options(
    command: argparse.ArgumentParser, *, is_service_required: bool = True
) -> None:
    command.add_argument("service", nargs=None if is_service_required else "?")
    command.add_argument("lane", nargs="?", help="the same as --lane")
    command.add_argument("--lane", dest="lane_option", metavar="LANE", help="the request's lane")
    command.add_argument("--mode", choices=("permissive", "strict"), default="permissive")
    command.add_argument(
        "--port", type=int, default=0, help="a port other than the one the scheme chooses"
    )
    command.add_argument("--scheme", choices=("http", "https"), default="http")


def _add_common_options(command: argparse.ArgumentParser) -> None:
    # Without a default of its own, which would overwrite a --json before the command.
    command.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
    )
    url = os.environ.get("LANE_ROUTER_URL", DEFAULT_URL)
    command.add_argument("--url", default=url, help=f"the registry's address ({DEFAULT_URL})")
    command.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="seconds to wait for the route table",
    )


def _get_lane(options: argparse.Namespace) -> str | None:
    lane = options.lane_option or options.lane
    if options.lane and options.lane_option and options.lane != options.lane_option:
        raise LaneError("the lane is given twice, by --lane and after the service; give it once")
    return str(lane) if lane else None


def _add_request_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rules", metavar="FILE", help="explain these colouring rules instead")
    command.add_argument("--method", default="GET")
    command.add_argument("--path", default="/")
    for name in ("header", "cookie", "query"):
        command.add_argument(f"--{name}", action="append", default=[], metavar="NAME=VALUE")


def _print_table(options: argparse.Namespace) -> int:
    with _open_router(options) as router:
        rows = _table_rows(router.table)
        if options.json:
            for row in rows[1:]:
                _print_json(_to_document(row))
        else:
            _print_rows(rows)
        return 0


def _resolve(options: argparse.Namespace) -> int:
    with _open_router(options) as router:
        resolution = router.resolve(
            options.service, _get_lane(options), port=options.port, scheme=options.scheme
        )
        if options.json:
            _print_json(
                {
                    "url": resolution.url,
                    "outcome": resolution.outcome,
                    "lane": resolution.lane or None,
                }
            )
            return 0 if resolution.in_mesh else 1
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
            options.service, _get_lane(options), port=options.port, scheme=options.scheme
        )
        if options.json:
            _print_json(
                {
                    "outcome": decision.outcome,
                    "host": decision.host,
                    "port": decision.port or None,
                    "lane": decision.lane or None,
                    "reason": decision.reason,
                }
            )
        else:
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
    if options.json:
        verdicts = [{"rule": rule, "verdict": verdict} for rule, verdict in steps]
        _print_json({"lane": explanation.lane or None, "rules": verdicts})
        return 0 if explanation.lane else 1
    _print_rows([("RULE", "VERDICT"), *steps])
    print(f"lane: {explanation.lane or 'none'}")  # noqa: T201 - the command's output
    return 0 if explanation.lane else 1


def _watch(options: argparse.Namespace) -> int:
    from queue import SimpleQueue

    # The poller's thread puts, this one prints.
    tables: SimpleQueue[RouteTable] = SimpleQueue()
    with _open_router(options) as router:
        before = set(_table_rows(router.table)[1:])
        if not options.json:
            print(f"watching {options.url}: {len(before)} routes", flush=True)  # noqa: T201 - output
        router.subscribe(tables.put)
        changes = 0
        while True:
            after = set(_table_rows(tables.get())[1:])
            for sign, rows in (("-", before - after), ("+", after - before)):
                for row in sorted(rows):
                    if options.json:
                        change = "added" if sign == "+" else "removed"
                        _print_json({"change": change, **_to_document(row)})
                    else:
                        print(sign, *map(_escape_controls, row), flush=True)  # noqa: T201 - the command's output
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


def _to_document(row: Row) -> dict[str, object]:
    """A row of the table as a JSON object; the base has no lane."""
    service, lane, host, port, ready = row
    return {
        "service": service,
        "lane": None if lane == "(base)" else lane,
        "host": host,
        "port": int(port),
        "ready": ready == "yes",
    }


def _print_json(document: dict[str, object]) -> None:
    # In ASCII: a terminal obeys some characters beyond it.
    print(json.dumps(document), flush=True)  # noqa: T201 - the output


def _escape_controls(text: str) -> str:
    """The text with escapes for what a terminal would obey: a rule may be called anything."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _print_rows(rows: Sequence[Row]) -> None:
    rows = [tuple(map(_escape_controls, row)) for row in rows]
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
