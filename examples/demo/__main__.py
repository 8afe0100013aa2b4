"""`make demo`: the toolkit at work, in about half a minute."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
from pathlib import Path
from typing import cast

from rich.console import Console

from .play import Play
from .processes import DemoError
from .screen import WIDTH, Screen


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--nacos", metavar="HOST:PORT", default="", help="use a real Nacos 3")
    parser.add_argument("--port", type=int, default=7080, help="first of five ports (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the traffic running until Ctrl-C")
    parser.add_argument("--picture", metavar="FILE", help="save the last screen as an SVG")
    parser.add_argument(
        "--act-seconds", type=float, default=1.5, help="traffic before each act (%(default)s)"
    )
    return parser.parse_args()


async def run(options: argparse.Namespace, console: Console) -> bool:
    """Play the demo, on a terminal or in plain lines; return whether every promise was kept.

    SIGTERM and a closed terminal end it as Ctrl-C does.
    """
    task = cast(asyncio.Task[object], asyncio.current_task())
    for signum in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
    with tempfile.TemporaryDirectory(prefix="microservice-demo-") as folder:
        with Screen("the microservice toolkit", console) as screen:
            succeeded = await Play(
                Path(folder),
                screen,
                nacos=options.nacos,
                port=options.port,
                act_seconds=options.act_seconds,
                keep=options.keep,
            ).run()
        if options.picture:
            screen.save_picture(options.picture)
    return succeeded


def main() -> int:
    """Return exit code 0 when every promise was kept, 1 when not, 2 when it could not start."""
    logging.basicConfig(level=logging.CRITICAL)  # what matters is on the screen
    console = Console(width=WIDTH if sys.stdout.isatty() else None, soft_wrap=True)
    try:
        return 0 if asyncio.run(run(parse_arguments(), console)) else 1
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; every process of the demo has ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
