"""`make demo`: the toolkit at work, in about half a minute, as a newcomer meets it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from .play import Play
from .processes import DemoError
from .screen import WIDTH, Screen


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--nacos", metavar="HOST:PORT", default="", help="use a real Nacos 3")
    parser.add_argument("--port", type=int, default=7080, help="first of five ports (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="go on until Ctrl-C")
    parser.add_argument("--picture", metavar="FILE", help="save the last screen as an SVG")
    parser.add_argument(
        "--act-seconds", type=float, default=1.5, help="traffic before each act (%(default)s)"
    )
    return parser.parse_args()


async def run(options: argparse.Namespace, console: Console) -> bool:
    """Play it, on a terminal or in plain lines; SIGTERM and a closed terminal end it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine always runs in a task
    for ending in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    with tempfile.TemporaryDirectory(prefix="microservice-demo-") as folder:
        with Screen("the microservice toolkit", console) as screen:
            held = await Play(
                Path(folder),
                screen,
                nacos=options.nacos,
                port=options.port,
                act_seconds=options.act_seconds,
                keep=options.keep,
            ).run()
        if options.picture:
            screen.picture(options.picture)
    return held


def main() -> int:
    """Exit code 0 when the play came out well, 1 when not, 2 when it could not be played."""
    logging.basicConfig(level=logging.CRITICAL)  # what matters is on the screen
    console = Console(width=WIDTH if sys.stdout.isatty() else None, soft_wrap=True)
    try:
        return 0 if asyncio.run(run(arguments(), console)) else 1
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; every process of the demo has ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
