"""The screen of the demo: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

__all__ = ("Configuration", "Screen")

WIDTH = 100
FRAME_LINES = 9  # all but the events
STATE_STYLES = {"closed": "green", "open": "bold red", "half-open": "yellow"}
PROCESS_STYLES = {"up": "green", "killed": "bold red"}
PLAIN_LINE_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration of one instance: see `/configuration` of `orders`."""

    version: int = 0
    pinned: int | None = None
    problem: str | None = None

    def to_cell(self) -> Text:
        """Return the version in use, and why it is not the newest document."""
        if self.pinned is not None:
            return Text(f"back to v{self.pinned}", "cyan")
        if self.problem is not None:
            return Text(f"v{self.version} kept", "yellow")
        return Text(f"v{self.version}" if self.version else "-", "green")


class Screen:
    """Shows instances, traffic and events; in plain mode every event is a line."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, auto_refresh=False)
        self._events: list[Text] = []
        self._started_at = time.monotonic()
        self._last_line = 0.0
        self._is_plain = not console.is_terminal
        self._state: RenderableType = Text()

    def __enter__(self) -> Self:
        if self._is_plain:
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
        if not self._is_plain:
            self._live.stop()

    def add_event(self, text: str, style: str = "") -> None:
        """Add a line about something that happened."""
        line = Text.assemble(
            (f"{time.monotonic() - self._started_at:5.1f} s  ", "dim"), (text, style)
        )
        self._events.append(line)
        if self._is_plain:
            self._console.print(line)

    def update(
        self,
        instances: Sequence[Process],
        traffic: Traffic,
        breakers: Mapping[str, str],
        configurations: Mapping[str, Configuration],
    ) -> None:
        """Show the present state."""
        table = _build_table(instances, traffic, breakers, configurations)
        totals = Text.assemble(
            ("calls ", "dim"),
            f"{traffic.answered} answered  ",
            (f"{traffic.failed} failed", "bold red" if traffic.failed else "green"),
            "  ",
            (f"{traffic.strayed} in the wrong lane", "bold red" if traffic.strayed else "green"),
        )
        self._state = Group(table, Text(), totals, Text())
        if not self._is_plain:
            fits = max(4, self._console.height - FRAME_LINES)
            self._live.update(self._build_frame(self._events[-fits:]), refresh=True)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_EVERY:
            self._last_line = time.monotonic()
            self._console.print(_build_plain_line(instances, traffic))

    def save_picture(self, path: str) -> None:
        """Save the last frame as an SVG that needs no external font."""
        recording = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
        recording.print(self._build_frame(self._events))
        svg = recording.export_svg(title="make demo")
        svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
        Path(path).write_text(svg, encoding="utf-8")

    def _build_frame(self, events: Sequence[Text]) -> RenderableType:
        body = Group(self._state, *events)
        return Panel(body, title=f"[bold]{self._title}", border_style="blue", width=WIDTH)


def _build_table(
    instances: Sequence[Process],
    traffic: Traffic,
    breakers: Mapping[str, str],
    configurations: Mapping[str, Configuration],
) -> RenderableType:
    table = Table(expand=True, box=None, pad_edge=False, header_style="bold")
    for name in ("instance", "version", "lane", "port", "process", "breaker", "config", "greets"):
        table.add_column(name, no_wrap=True)
    for name in ("calls", "dev", "p50 ms", "p95 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for process in instances:
        tally = traffic.tallies.get(process.port, Tally())
        configuration = configurations.get(process.address, Configuration())
        breaker = breakers.get(process.address, "")
        table.add_row(*_build_cells(process, tally, breaker, configuration))
    return table


def _build_cells(
    process: Process, tally: Tally, breaker: str, configuration: Configuration
) -> list[RenderableType]:
    lane = process.labels.get("lane")
    return [
        process.name,
        process.labels.get("version", ""),
        Text(lane or "-", "magenta" if lane else "dim"),
        str(process.port),
        Text(process.state, PROCESS_STYLES.get(process.state, "yellow")),
        Text(breaker or "-", STATE_STYLES.get(breaker, "dim")),
        configuration.to_cell(),
        tally.greeting,
        str(tally.calls),
        str(tally.lane_calls or "-"),
        f"{tally.percentile(0.5):.1f}",
        f"{tally.percentile(0.95):.1f}",
    ]


def _build_plain_line(instances: Sequence[Process], traffic: Traffic) -> str:
    calls = ", ".join(
        f"{process.name} {traffic.tallies.get(process.port, Tally()).calls}"
        for process in instances
    )
    return f"         calls: {calls}; {traffic.failed} failed"
