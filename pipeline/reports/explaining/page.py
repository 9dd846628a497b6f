"""An explanation as one page that needs nothing else, one picture, and figures for other programs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import atomic
from pipeline.reports._pictures import BLUE, GREY, RED, picture
from pipeline.reports.explaining.overlay import Overlay
from pipeline.reports.explaining.subject import Subject
from pipeline.reports.explaining.why import Why
from pipeline.reports.report import percent
from pipeline.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_suffix(".html")
COLUMNS, WIDTH, MOST_PARTS = 6, 160, 20


def write(out: Path, subject: Subject, why: Why, drawn: Sequence[Overlay], notes: Sequence[str]) -> Path:
    """`explanation.html`, `explanation.png` where there are pictures, and `explanation.json`; gives the page."""
    from jinja2 import Environment, StrictUndefined

    sheets = {each.stage: _sheet(each.frames) for each in drawn}
    parts = sorted(why.hidden.parts.items(), key=lambda pair: -abs(pair[1]))
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text("utf-8"))
    text = page.render(
        name=subject.name,
        truth=subject.sample.label,
        run=subject.run,
        why=why,
        percent=percent,
        parts=[{"stage": s, "part": p, "worth": worth, "share": why.hidden.shares()[s, p]} for (s, p), worth in parts],
        graphs=graphs(why),
        drawn=[{"stage": each.stage, "said": each.said, "image": _address(sheets[each.stage])} for each in drawn],
        notes=[*why.notes, *notes],
    )
    path = out / "explanation.html"
    atomic.replace(path, text.encode("utf-8", errors="backslashreplace"))
    if sheets:
        atomic.replace(out / "explanation.png", _png(_stacked(list(sheets.values()))))
    return path


def graphs(why: Why) -> dict[str, str]:
    """Each graph as the text of an image's address."""
    height = 0.8 + 0.28 * min(len(why.hidden.parts), MOST_PARTS)
    return {
        "parts": picture((7, height), lambda figure: _draw_parts(figure.subplots(), why)),
        "time": picture((9, 2.6), lambda figure: _draw_time(figure.subplots(), _lines(why))),
    }


def draw_hidden(figure: Figure, why: Why) -> None:
    """What each part is worth beside what each moment is."""
    parts, time = figure.subplots(1, 2)
    _draw_parts(parts, why)
    _draw_time(time, [("hidden", why.hidden.moments)])


def _draw_parts(axes: Axes, why: Why) -> None:
    """What each part is worth, a bar each, the weightiest on top."""
    rows = sorted(why.hidden.parts.items(), key=lambda pair: abs(pair[1]))[-MOST_PARTS:]
    names, worth = [f"{stage}: {part}" for (stage, part), _ in rows], [value for _, value in rows]
    axes.barh(range(len(rows)), worth, color=[BLUE if value >= 0 else RED for value in worth])
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="fall of the log odds without it")
    axes.spines[["top", "right"]].set_visible(False)


def _lines(why: Why) -> list[tuple[str, Array]]:
    """What is known of the clip's time: what each moment is worth by hiding it, what gradients add there, and attention."""
    found = [("hidden", why.hidden.moments)]
    if why.added:
        found += [(f"gradients, {stage}", why.added.frames(stage)) for stage, rows in why.added.rows.items() if len(rows)]
    return found if why.attention is None else [*found, ("attention", why.attention)]


def _draw_time(axes: Axes, lines: Sequence[tuple[str, Array]]) -> None:
    """Over the clip's time, each line by its largest value."""
    for name, values in lines:
        times = 100 * (np.arange(len(values)) + 0.5) / max(len(values), 1)
        axes.plot(times, values / (np.abs(values).max(initial=0) or 1), label=name, linewidth=1.3, marker="" if len(values) > 1 else "o")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel="time, %", xlim=(0, 100), ylabel="of the largest", ylim=(-1.05, 1.05))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)


def figures(subject: Subject, why: Why) -> dict[str, Any]:
    """The explanation as plain values."""
    shares = why.hidden.shares()
    rows = [{"stage": s, "part": p, "worth": worth, "share": shares[s, p]} for (s, p), worth in why.hidden.parts.items()]
    found: dict[str, Any] = {
        "clip": subject.name,
        "truth": subject.sample.label,
        "label": why.label,
        "top": [list(pair) for pair in why.top],
        "stages": why.stages(),
        "parts": sorted(rows, key=lambda row: -float(row["share"])),
        "moments": why.hidden.moments.tolist(),
        "notes": list(why.notes),
    }
    if why.attention is not None:
        found["attention"] = why.attention.tolist()
    if why.added:
        found["gradients"] = {
            "frames": {stage: why.added.frames(stage).tolist() for stage in why.added.rows},
            "parts": {
                stage: {part: float(values.sum()) for part, values in why.added.parts(stage, subject.layouts[stage]).items()}
                for stage in why.added.rows
            },
            "added": why.added.whole,
            "gap": why.added.gap,
        }
    return found


def _sheet(frames: Any) -> Any:
    """`(N, H, W, 3)` pictures as thumbnails in lines of COLUMNS."""
    from PIL import Image

    height, width = frames.shape[1:3]
    size = (WIDTH * max(1, round(width / height / 1.5)), 0)
    size = (size[0], max(1, round(size[0] * height / width)))
    columns = max(1, COLUMNS * WIDTH // size[0])
    sheet = Image.new("RGB", (columns * size[0], -(-len(frames) // columns) * size[1]), "white")
    for number, frame in enumerate(frames):
        small = Image.fromarray(np.ascontiguousarray(frame)).resize(size)
        sheet.paste(small, (number % columns * size[0], number // columns * size[1]))
    return sheet


def _stacked(sheets: Sequence[Any]) -> Any:
    from PIL import Image

    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def _png(image: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _address(image: Any) -> str:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
