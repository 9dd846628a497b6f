"""What a bench leaves: a table on the terminal, a JSON file, a picture, an exit status."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import __version__
from pipeline.machine import cores
from tests.bench.rows import Row, quartiles

BUSY = 0.3
"""Load average a core above which another program is at work."""
STYLES = {"ok": "green", "below": "bold red", "absent": "yellow"}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    import torch

    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "signcache": __version__,
        "load_average": os.getloadavg()[0],
    }


def said(found: dict[str, Any]) -> str:
    """The machine in a line, and a warning where it is busy."""
    line = (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_bytes'] / 2**30:.0f} GiB, {found['gpu'] or 'no GPU'}; "
        f"Python {found['python']}, torch {found['torch']}, signcache {found['signcache']}; load average {found['load_average']:.1f}"
    )
    if found["load_average"] > BUSY * found["cores"]:
        line += "\nwarning: the machine is busy: these figures drift; run it again when it is quiet"
    return line


def table(rows: Sequence[Row]) -> Table:
    """A line a row: medians, and from the lower to the upper quartile of what is held to the floor."""
    found = Table("", "what", "ours", "rival", "ratio", "quartiles", "floor", "aim", "verdict", box=None, pad_edge=False)
    for row in rows:
        if row.absent:
            reason = Text(f"absent: {row.absent}", STYLES["absent"])
            found.add_row(row.part, Text(row.what), "", "", "", "", limit(row, row.floor), limit(row, row.aim), reason)
            continue
        low, middle, high = quartiles(row.values)
        both = [f"{figure(quartiles(values)[1])} {row.unit}" if values else "" for values in (row.ours, row.rival)]
        verdict = Text(row.verdict, STYLES.get(row.verdict, ""))
        limits = (limit(row, row.floor), limit(row, row.aim))
        found.add_row(row.part, Text(row.what), *both, figure(middle), f"{figure(low)} .. {figure(high)}", *limits, verdict)
    return found


def line(row: Row) -> str:
    """One row while the others are still measured."""
    if row.absent:
        return f"{row.part}  {row.what}  absent: {row.absent}"
    bound = f" ({limit(row, row.floor)}) {row.verdict}" if row.floor is not None else ""
    return f"{row.part}  {row.what}  {figure(row.value)}{bound}"


def figure(value: float) -> str:
    """Three digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def limit(row: Row, value: float | None) -> str:
    """A floor or an aim with its direction."""
    return "" if value is None else f"{'<=' if row.at_most else '>='} {figure(value)}"


def keep(folder: Path, found: dict[str, Any], rows: Sequence[Row], seconds: float) -> Path:
    """`<date>.json` with every round of every row, and the picture beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now():%Y-%m-%dT%H%M%S}.json"
    lines = [{**asdict(row), "value": row.value if row.values else None, "verdict": row.verdict} for row in rows]
    path.write_text(json.dumps({"machine": found, "seconds": round(seconds, 1), "rows": lines}, indent=1) + "\n", encoding="utf-8")
    _draw(path.with_suffix(".svg"), [row for row in rows if row.values and row.floor], said(found))
    return path


def _draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """How far each row is above its floor (1), and where its aim lies."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10, 1.5 + 0.35 * len(rows)), layout="constrained")
    axes = picture.subplots()
    for place, row in enumerate(rows):
        assert row.floor
        low, middle, high = ((row.floor / max(v, 1e-9) if row.at_most else v / row.floor) for v in quartiles(row.values))
        axes.barh(place, math.log10(middle), color="tab:green" if row.verdict == "ok" else "tab:red")
        axes.plot([math.log10(low), math.log10(high)], [place, place], color="black")
        if row.aim:
            axes.plot(math.log10(row.floor / row.aim if row.at_most else row.aim / row.floor), place, "k|", markersize=12)
    axes.set_yticks(range(len(rows)), [f"{row.part}, {row.what}" for row in rows], fontsize=8)
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set_xticks([math.log10(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.invert_yaxis()
    axes.axvline(0, color="black")
    axes.set_xlabel("times the floor; the mark is the aim, the line goes from quartile to quartile")
    axes.set_title(title, fontsize=8)
    picture.savefig(path)


def show(found: dict[str, Any], rows: Sequence[Row], path: Path, console: Console | None = None) -> int:
    """Print all; the exit status: 1 where a row is below its floor."""
    console = console or Console()
    console.print(said(found), highlight=False, markup=False, soft_wrap=True)
    console.print(table(rows))
    console.print(f"{path}\n{path.with_suffix('.svg')}", highlight=False, markup=False, soft_wrap=True)
    return int(any(row.verdict == "below" for row in rows))
