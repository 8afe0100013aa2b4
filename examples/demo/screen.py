"""What the demo shows: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .processes import Process
from .traffic import Tally, Traffic

__all__ = ("Screen",)

WIDTH = 100
STATE_STYLES = {"closed": "green", "open": "bold red", "half-open": "yellow"}
PLAIN_LINE_EVERY = 2.0


class Screen:
    """Shows instances, traffic and events; every event is also a line of its own when plain."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, auto_refresh=False)
        self._events: list[Text] = []
        self._began = time.monotonic()
        self._last_line = 0.0
        self._plain = not console.is_terminal
        self._frame: RenderableType = Text()

    def __enter__(self) -> Self:
        if self._plain:
            self._console.print(self._title)
        else:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if not self._plain:
            self._live.stop()

    def event(self, text: str, style: str = "") -> None:
        """Something happened that is worth a line."""
        line = Text.assemble((f"{time.monotonic() - self._began:5.1f} s  ", "dim"), (text, style))
        self._events.append(line)
        if self._plain:
            self._console.print(line)

    def update(
        self, instances: Sequence[Process], traffic: Traffic, breakers: dict[str, str]
    ) -> None:
        """Show the state of now."""
        self._frame = self._render(instances, traffic, breakers)
        if not self._plain:
            self._live.update(self._frame, refresh=True)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_EVERY:
            self._last_line = time.monotonic()
            self._console.print(_plain_line(instances, traffic))

    def picture(self, path: str) -> None:
        """Save the last frame as an SVG that needs no font from elsewhere."""
        recording = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
        recording.print(self._frame)
        drawn = recording.export_svg(title="make demo")
        drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
        Path(path).write_text(drawn, encoding="utf-8")

    def _render(
        self, instances: Sequence[Process], traffic: Traffic, breakers: dict[str, str]
    ) -> RenderableType:
        table = Table(expand=True, box=None, pad_edge=False, header_style="bold")
        for name in ("instance", "version", "lane", "address", "process", "breaker"):
            table.add_column(name, no_wrap=True)
        for name in ("calls", "dev", "p50 ms", "p95 ms"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("greets", no_wrap=True)
        for process in instances:
            tally = traffic.tallies.get(process.port, Tally())
            table.add_row(*_cells(process, tally, breakers.get(process.address, "")))
        totals = Text.assemble(
            ("calls ", "dim"),
            f"{traffic.answered} answered  ",
            (f"{traffic.failed} failed", "bold red" if traffic.failed else "green"),
            "  ",
            (f"{traffic.strayed} in the wrong lane", "bold red" if traffic.strayed else "green"),
        )
        events = Group(*self._events[-9:])
        body = Group(table, Text(), totals, Text(), events)
        return Panel(body, title=f"[bold]{self._title}", border_style="blue", width=WIDTH)


def _cells(process: Process, tally: Tally, breaker: str) -> list[RenderableType]:
    running = ("up", "green") if process.alive else ("killed", "bold red")
    return [
        process.name,
        process.labels.get("version", ""),
        Text(process.labels.get("lane") or "-", "magenta" if process.labels.get("lane") else "dim"),
        process.address,
        Text(*running),
        Text(breaker or "-", STATE_STYLES.get(breaker, "dim")),
        str(tally.calls),
        str(tally.lane_calls or "-"),
        f"{tally.percentile(0.5):.1f}",
        f"{tally.percentile(0.95):.1f}",
        tally.greeting,
    ]


def _plain_line(instances: Sequence[Process], traffic: Traffic) -> str:
    calls = ", ".join(
        f"{process.name} {traffic.tallies.get(process.port, Tally()).calls}"
        for process in instances
    )
    return f"         calls: {calls}; {traffic.failed} failed"
