"""The timeline of a run of the cluster tests as one HTML page.

    python scripts/cluster_report.py RECORD PAGE

RECORD has a JSON object a line, as the cluster tests write it to the file that CLUSTER_RECORD names:
`{"second", "outcome", "count"}` for requests, `{"second", "event"}` for what was done to the cluster.
"""

from __future__ import annotations

import html
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

COLOURS = ("#2a78d6", "#1baf7a", "#eda100", "#4a3aa7", "#e87ba4", "#008300", "#7a6a55")
FAILURE = "#e34948"
BAR, GAP, HEIGHT, TOP, LEFT = 5, 1, 260, 118, 46
LONGEST_PAUSE = 6


@dataclass(slots=True)
class Run:
    """What happened, by second."""

    requests: dict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    events: list[tuple[int, str]] = field(default_factory=list)

    @property
    def outcomes(self) -> list[str]:
        """All outcomes, the most frequent first."""
        totals: dict[str, int] = defaultdict(int)
        for counts in self.requests.values():
            for outcome, count in counts.items():
                totals[outcome] += count
        return sorted(totals, key=lambda outcome: -totals[outcome])

    def total(self, outcome: str) -> int:
        """How many requests ended so."""
        return sum(counts.get(outcome, 0) for counts in self.requests.values())


def read(record: Path) -> Run:
    """The run that the file tells of."""
    run = Run()
    for line in record.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "event" in entry:
            run.events.append((entry["second"], entry["event"]))
        else:
            counts = run.requests[entry["second"]]
            counts[entry["outcome"]] = counts.get(entry["outcome"], 0) + entry["count"]
    return run


def is_failure(outcome: str) -> bool:
    """Whether a request that ended so failed: a good one names the hops."""
    return not outcome.startswith("gateway-")


def colours(run: Run) -> Mapping[str, str]:
    """One for each outcome; failures are red."""
    good = [outcome for outcome in run.outcomes if not is_failure(outcome)]
    chosen = {outcome: COLOURS[number % len(COLOURS)] for number, outcome in enumerate(good)}
    return chosen | {outcome: FAILURE for outcome in run.outcomes if is_failure(outcome)}


def columns(run: Run) -> dict[int, int]:
    """Where each second is drawn: long pauses between two tests are cut short."""
    seconds = sorted({*run.requests, *(second for second, _ in run.events)})
    places: dict[int, int] = {}
    place, before = 0, None
    for second in seconds:
        if before is not None:
            place += min(second - before, LONGEST_PAUSE)
        places[second], before = place, second
    return places


def bars(run: Run, places: Mapping[int, int], most: int) -> Iterator[str]:
    """A column a second, a part for each outcome."""
    chosen = colours(run)
    for second, counts in sorted(run.requests.items()):
        bottom = float(TOP + HEIGHT)
        for outcome in run.outcomes:
            count = counts.get(outcome, 0)
            if count:
                tall = HEIGHT * count / most
                bottom -= tall
                x = LEFT + places[second] * (BAR + GAP)
                yield (
                    f'<rect x="{x}" y="{bottom:.1f}" width="{BAR}" height="{tall:.1f}" '
                    f'fill="{chosen[outcome]}"><title>{html.escape(outcome)}: {count}/s</title></rect>'
                )


def marks(run: Run, places: Mapping[int, int]) -> Iterator[str]:
    """A line for each event, its number on top."""
    for number, (second, event) in enumerate(run.events, start=1):
        x = LEFT + places[second] * (BAR + GAP)
        high = TOP - 18 - 16 * ((number - 1) % 5)
        yield f'<line x1="{x}" x2="{x}" y1="{high + 4}" y2="{TOP + HEIGHT}" class="event"/>'
        yield f'<text x="{x}" y="{high}" class="number">{number}<title>{html.escape(event)}</title></text>'


def axis(most: int, width: int) -> Iterator[str]:
    """Requests a second."""
    for share in (0, 0.5, 1):
        y = TOP + HEIGHT * (1 - share)
        yield f'<line x1="{LEFT}" x2="{width}" y1="{y}" y2="{y}" class="grid"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{most * share:.0f}</text>'


def page(run: Run) -> str:
    """The whole page, without anything from elsewhere."""
    places = columns(run)
    most = max((sum(counts.values()) for counts in run.requests.values()), default=1)
    width = LEFT + (max(places.values(), default=0) + 2) * (BAR + GAP)
    picture = "\n".join([*axis(most, width), *bars(run, places, most), *marks(run, places)])
    chosen = colours(run)
    legend = "\n".join(
        f'<tr><td><i style="background:{chosen[one]}"></i></td><td>{html.escape(one)}</td>'
        f"<td>{run.total(one)}</td></tr>"
        for one in run.outcomes
    )
    began = min(places, default=0)
    events = "\n".join(
        f"<li>{html.escape(event)} <small>after {second - began} s</small></li>"
        for second, event in run.events
    )
    failed = sum(run.total(outcome) for outcome in run.outcomes if is_failure(outcome))
    every = sum(run.total(outcome) for outcome in run.outcomes)
    return PAGE.format(
        every=every,
        failed=failed,
        width=width,
        height=TOP + HEIGHT + 24,
        picture=picture,
        legend=legend,
        events=events,
    )


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A run in a cluster</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2733; --dim: #66707c; --line: #d9dee4; --paper: #fff }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e9ed; --dim: #9aa4af; --line: #38414b; --paper: #14191f }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: var(--ink); background: var(--paper) }}
h1 {{ font-size: 1.4rem; margin: 0 }} p, small {{ color: var(--dim) }}
figure {{ margin: 1rem 0; overflow-x: auto }} svg text {{ font-size: 12px; fill: var(--dim) }}
svg .number {{ fill: var(--ink); font-weight: 600; text-anchor: middle }}
.grid {{ stroke: var(--line) }} .event {{ stroke: var(--dim); stroke-dasharray: 3 3 }}
table {{ border-collapse: collapse }} td {{ padding: .15rem .8rem .15rem 0 }}
td:last-child {{ text-align: right; font-variant-numeric: tabular-nums }}
i {{ display: inline-block; width: .8rem; height: .8rem; border-radius: 2px }}
.two {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 2rem }}
</style>
<h1>{every} requests through gateway, orders and inventory: {failed} failed</h1>
<p>A column is one second, its height the requests that ended in it, its parts who answered at each hop:
service, lane, version. The numbers mark what was done to the cluster; pauses are cut short.</p>
<figure><svg width="{width}" height="{height}" role="img" aria-label="requests by second">
{picture}
</svg></figure>
<div class="two"><div><h2>Who answered</h2><table>{legend}</table></div>
<div><h2>What was done</h2><ol>{events}</ol></div></div>
</html>
"""


def main(record: str, target: str) -> None:
    """Write the page."""
    Path(target).write_text(page(read(Path(record))), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
