"""One self-contained page for a run: what it is worth beside chance, how it got there, where it errs, what it was made from."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import atomic
from pipeline.decode import Recounted, open_clip
from pipeline.epochs import Epoch, read_figures
from pipeline.errors import ClipError
from pipeline.runs import REPORT, Run
from pipeline.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

TEMPLATE = Path(__file__).with_suffix(".html")
NAMED_CLASSES = 40
"""More classes than this are numbers beside the confusion matrix, named in the table below it."""
PAIRS = 15
FRAMES = 4
BLUE, RED, GREY = "#2f6690", "#b23a48", "#8d99ae"


def write(run: Run) -> Path:
    """Write `report.html` into the run's folder; raises UserError where the run is unfinished."""
    from jinja2 import Environment, StrictUndefined

    result, epochs = run.scores, read_figures(run.folder)
    place = {label: number for number, label in enumerate(result["classes"])}
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text("utf-8"))
    text = page.render(
        record=run.record,
        result=result,
        percent=percent,
        pictures=_pictures(result, epochs),
        best=next((row for row in reversed(epochs) if row.best), None),
        epochs=len(epochs),
        pairs=_confused(result),
        worst=[{**clip, "frames": frames_of(run, clip["media"])} for clip in result.get("worst", [])],
        per_class=[{**row, "index": place[row["label"]]} for row in sorted(result["per_class"], key=lambda row: row["f1"])],
        settings={key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in run.record["settings"].items()},
        inputs=_inputs(run.record),
        fingerprints=json.dumps({name: stage["identity"] for name, stage in run.record["stages"].items()}, indent=1, ensure_ascii=False),
        environment={key: value for key, value in run.record["environment"].items() if key != "argv"},
    )
    path = run.folder / REPORT
    atomic.replace(path, text.encode("utf-8", errors="backslashreplace"))
    return path


def percent(share: float) -> str:
    """`81.2 %`."""
    return f"{100 * share:.1f} %"


def _inputs(record: Mapping[str, Any]) -> dict[str, str]:
    """Which clips were read, and the line that does it again."""
    table = record["manifest"]
    counts = ", ".join(f"{split} {count}" for split, count in record["clips"].items())
    digests = {"rows": record["rows"], "manifest": table["digest"]}
    return {"clips": f"{counts} ({table['split']} split)", **digests, "root": table["root"], "again": record["command"]}


def _confused(result: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """`(truth, taken for, clips)` of the commonest errors."""
    names = result["classes"]
    wrong = [(names[truth], names[guess], count) for truth, guess, count in result["confusion"] if truth != guess]
    return sorted(wrong, key=lambda pair: -pair[2])[:PAIRS]


def frames_of(run: Run, media: Mapping[str, Sequence[str]]) -> list[str]:
    """A few frames of a clip's first video as the text of an image's address; none where it has no video or the files are elsewhere."""
    from PIL import Image

    for paths in media.values():
        path = Path(run.record["manifest"]["root"]) / paths[0]
        try:
            clip = open_clip([path], decord=False, lengths={})
            wanted = np.unique(np.linspace(0, clip.length - 1, FRAMES + 2).astype(np.int64)[1:-1])
            images = [Image.fromarray(image) for (image,) in clip.frames(wanted) if image.ndim == 3]
        except (ClipError, Recounted, OSError):
            continue
        if images:
            return [_thumbnail(image) for image in images]
    return []


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((180, 135))
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _pictures(result: Mapping[str, Any], epochs: list[Epoch]) -> dict[str, str]:
    """Each picture as the text of an image's address, so that the page needs nothing else."""
    return {
        "score": _picture((8.5, 1.3), lambda figure: _draw_score(figure, result)),
        "curves": _picture((9, 3), lambda figure: _draw_curves(figure, epochs)) if epochs else "",
        "confusion": _picture((8, 7), lambda figure: _draw_confusion(figure, result)),
    }


def _picture(size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    out = io.BytesIO()
    # text stays text: the reader's browser has the letters that matplotlib's font lacks
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "signcache", "font.size": 9}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()


def _draw_score(figure: Figure, result: Mapping[str, Any]) -> None:
    """Top-1 with its interval on a line from 0 to 100 %, chance marked."""
    axes = figure.subplots()
    low, high, chance = result["interval"]["low"], result["interval"]["high"], result["chance"]
    axes.hlines(0, 100 * low, 100 * high, color=BLUE, linewidth=6, alpha=0.4, label="95 % interval")
    axes.plot(100 * result["top1"], 0, "o", color=BLUE, markersize=9, label="top-1")
    axes.axvline(100 * chance["majority"], color=RED, linewidth=1.5, label="most frequent class")
    axes.axvline(100 * chance["uniform"], color=GREY, linewidth=1.5, linestyle="--", label="guessing")
    axes.set(xlim=(-1, 101), ylim=(-1, 1), yticks=[], xlabel="%")
    axes.spines[["top", "left", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)


def _draw_curves(figure: Figure, epochs: list[Epoch]) -> None:
    losses, accuracy = figure.subplots(1, 2)
    numbers = [row.epoch for row in epochs]
    best = max(row.epoch for row in epochs if row.best)
    marker = "o" if len(epochs) == 1 else ""
    losses.plot(numbers, [row.loss for row in epochs], color=GREY, label="train", marker=marker)
    losses.plot(numbers, [row.val_loss for row in epochs], color=BLUE, label="validation", marker=marker)
    losses.set(xlabel="epoch", ylabel="loss")
    accuracy.plot(numbers, [100 * row.val_top1 for row in epochs], color=BLUE, label="validation", marker=marker)
    accuracy.set(xlabel="epoch", ylabel="top-1, %", ylim=(-2, 102))
    for axes in (losses, accuracy):
        axes.axvline(best, color=RED, linewidth=1, linestyle=":", label="kept")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)


def _draw_confusion(figure: Figure, result: Mapping[str, Any]) -> None:
    """Rows are the truth, columns the prediction; colours are shares of the row."""
    names = result["classes"]
    counts: Array = np.zeros((len(names), len(names)))
    for truth, guess, count in result["confusion"]:
        counts[truth, guess] = count
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.set(xlabel="taken for", ylabel="was")
    if len(names) <= NAMED_CLASSES:
        shown = [name if len(name) <= 24 else name[:23] + "…" for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90, parse_math=False)
        axes.set_yticks(range(len(names)), shown, parse_math=False)
        for truth, guess in np.argwhere(counts):
            colour = "white" if shares[truth, guess] > 0.5 else "#222"
            axes.text(guess, truth, f"{counts[truth, guess]:.0f}", ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.6, label="% of the class")
