"""The timeline of a run of the cluster tests as one HTML page.

    python scripts/cluster_report.py RECORD PAGE

RECORD has a JSON object a line, as the cluster tests write it to the file that CLUSTER_RECORD names:
`{"second", "outcome", "count"}` for what callers saw, `{"second", "pod", "served", "failed"}` for what
the pods' metrics counted, `{"second", "event"}` for what was done to the cluster.
"""

from __future__ import annotations

import html
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

COLOURS = (
    "#2a78d6", "#1baf7a", "#eda100", "#4a3aa7", "#e87ba4", "#008300", "#7a6a55", "#39b8c9", "#b8660f",
)  # fmt: skip
FAILURE = "#e34948"
BAR, GAP, HEIGHT, TOP, LEFT = 5, 1, 260, 118, 46
LONGEST_PAUSE = 6


Counts = dict[int, dict[str, int]]


def by_second() -> Counts:
    """Nothing counted yet."""
    return defaultdict(lambda: defaultdict(int))


@dataclass(slots=True)
class Run:
    """What happened, by second.

    Attributes:
        observed: what callers saw: who answered at each hop, or the failure.
        served: what the pods' own metrics counted: service, lane, version, and failures.
    """

    observed: Counts = field(default_factory=by_second)
    served: Counts = field(default_factory=by_second)
    events: list[tuple[int, str]] = field(default_factory=list)


def read(record: Path) -> Run:
    """The run that the file tells of."""
    run = Run()
    for line in record.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        second = entry["second"]
        if "event" in entry:
            run.events.append((second, entry["event"]))
        elif "pod" in entry:
            run.served[second][entry["pod"]] += entry["served"] - entry["failed"]
            if entry["failed"]:
                run.served[second][f"failed: {entry['pod']}"] += entry["failed"]
        else:
            run.observed[second][entry["outcome"]] += entry["count"]
    return run


def totals(counts: Counts) -> dict[str, int]:
    """Each outcome with its number, the most frequent first."""
    counts_by_name: dict[str, int] = defaultdict(int)
    for each in counts.values():
        for outcome, count in each.items():
            counts_by_name[outcome] += count
    return dict(sorted(counts_by_name.items(), key=lambda pair: -pair[1]))


def is_failure(outcome: str) -> bool:
    """Whether requests that ended so failed: of a good one the hops or the pod are known."""
    return not re.match(r"(gateway|orders|inventory)-", outcome)


def is_refusal(outcome: str) -> bool:
    """Whether it is the answer a strict lane without anybody has to give."""
    return outcome.startswith("503 ") and "the mode is strict" in outcome


def colours(counts: Counts) -> Mapping[str, str]:
    """One for each outcome; failures are red."""
    counts_by_name = totals(counts)
    good = [outcome for outcome in counts_by_name if not is_failure(outcome)]
    chosen = {outcome: COLOURS[number % len(COLOURS)] for number, outcome in enumerate(good)}
    return chosen | {outcome: FAILURE for outcome in counts_by_name if is_failure(outcome)}


def columns(run: Run) -> dict[int, int]:
    """Where each second is drawn: long pauses between two tests are cut short."""
    seconds = sorted({*run.observed, *run.served, *(second for second, _ in run.events)})
    places: dict[int, int] = {}
    place, before = 0, None
    for second in seconds:
        if before is not None:
            place += min(second - before, LONGEST_PAUSE)
        places[second], before = place, second
    return places


def bars(counts: Counts, places: Mapping[int, int], most: int) -> Iterator[str]:
    """A column a second, a part for each outcome."""
    chosen = colours(counts)
    for second, each in sorted(counts.items()):
        bottom = float(TOP + HEIGHT)
        for outcome in chosen:
            count = each.get(outcome, 0)
            if count:
                tall = HEIGHT * count / most
                bottom -= tall
                x = LEFT + places[second] * (BAR + GAP)
                yield (
                    f'<rect x="{x}" y="{bottom:.1f}" width="{BAR}" height="{tall:.1f}" '
                    f'fill="{chosen[outcome]}"><title>{html.escape(outcome)}: {count}</title></rect>'
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


def picture(run: Run, counts: Counts, label: str) -> str:
    """One set of counts over time, with the events."""
    places = columns(run)
    most = max((sum(each.values()) for each in counts.values()), default=1)
    width = LEFT + (max(places.values(), default=0) + 2) * (BAR + GAP)
    drawn = "\n".join([*axis(most, width), *bars(counts, places, most), *marks(run, places)])
    return (
        f'<svg width="{width}" height="{TOP + HEIGHT + 24}" role="img" aria-label="{label}">'
        f"\n{drawn}\n</svg>"
    )


def legend(counts: Counts) -> str:
    """What the colours mean, and how many there were."""
    chosen = colours(counts)
    return "\n".join(
        f'<tr><td><i style="background:{chosen[outcome]}"></i></td><td>{html.escape(outcome)}</td>'
        f"<td>{count}</td></tr>"
        for outcome, count in totals(counts).items()
    )


def page(run: Run) -> str:
    """The whole page, without anything from elsewhere."""
    began = min(columns(run), default=0)
    events = "\n".join(
        f"<li>{html.escape(event)} <small>after {second - began} s</small></li>"
        for second, event in run.events
    )
    observed = totals(run.observed)
    return PAGE.format(
        every=sum(observed.values()),
        refused=sum(count for outcome, count in observed.items() if is_refusal(outcome)),
        failed=sum(
            count
            for outcome, count in observed.items()
            if is_failure(outcome) and not is_refusal(outcome)
        ),
        observed=picture(run, run.observed, "what callers saw, by second"),
        seen_legend=legend(run.observed),
        served=picture(run, run.served, "what the pods counted, by second"),
        served_legend=legend(run.served),
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
h1 {{ font-size: 1.4rem; margin: 0 }} h2 {{ font-size: 1.1rem; margin: 1.2rem 0 0 }} p, small {{ color: var(--dim) }}
figure {{ margin: 1rem 0; overflow-x: auto }} svg text {{ font-size: 12px; fill: var(--dim) }}
svg .number {{ fill: var(--ink); font-weight: 600; text-anchor: middle }}
.grid {{ stroke: var(--line) }} .event {{ stroke: var(--dim); stroke-dasharray: 3 3 }}
table {{ border-collapse: collapse }} td {{ padding: .15rem .8rem .15rem 0 }}
td:last-child {{ text-align: right; font-variant-numeric: tabular-nums }}
i {{ display: inline-block; width: .8rem; height: .8rem; border-radius: 2px }}
.two {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 2rem }}
</style>
<h1>{every} requests through gateway, orders and inventory: {refused} refused by a strict lane, {failed} failed</h1>
<p>A column is one second. The numbers mark what was done to the cluster; pauses are cut short.</p>
<h2>What callers saw</h2>
<p>Requests that ended in this second, by who answered at each hop: service, lane, version.</p>
<figure>{observed}</figure>
<h2>What the pods counted</h2>
<p>Requests by the pods' own Prometheus metrics, read every two seconds: each of the above is counted
at three hops. What a killed pod had counted since the last reading is lost.</p>
<figure>{served}</figure>
<div class="two"><div><h2>Who answered</h2><table>{seen_legend}</table></div>
<div><h2>Who served</h2><table>{served_legend}</table></div>
<div><h2>What was done</h2><ol>{events}</ol></div></div>
</html>
"""


def main(record: str, target: str) -> None:
    """Write the page."""
    Path(target).write_text(page(read(Path(record))), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
