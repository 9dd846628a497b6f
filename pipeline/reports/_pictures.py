"""Pictures of a page as the text of an image's address, so that the page needs nothing else."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.learning.epochs import Epoch
from pipeline.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED_CLASSES = 40
"""More classes than this are numbers beside the confusion matrix, named in the table below it."""
BLUE, RED, GREY = "#2f6690", "#b23a48", "#8d99ae"
COLOURS = (BLUE, RED, "#3a7d44", "#d98324", "#6a4c93", "#1b998b", "#8d5524", "#5c677d")


def is_image(frame: Array) -> bool:
    """Whether it is `(H, W, 3)` uint8; other media, as maps of floats, have no picture."""
    return frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8


def picture(size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
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


def draw_score(figure: Figure, result: Mapping[str, Any]) -> None:
    """Top-1 with its interval, where it has one, on a line from 0 to 100 %, chance marked."""
    axes = figure.subplots()
    low, high, chance = result["interval"]["low"], result["interval"]["high"], result["chance"]
    if low is not None:
        axes.hlines(0, 100 * low, 100 * high, color=BLUE, linewidth=6, alpha=0.4, label="95 % interval")
    axes.plot(100 * result["top1"], 0, "o", color=BLUE, markersize=9, label="top-1")
    axes.axvline(100 * chance["majority"], color=RED, linewidth=1.5, label="most frequent class")
    axes.axvline(100 * chance["uniform"], color=GREY, linewidth=1.5, linestyle="--", label="guessing")
    axes.set(xlim=(-1, 101), ylim=(-1, 1), yticks=[], xlabel="%")
    axes.spines[["top", "left", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)


def draw_curves(figure: Figure, epochs: list[Epoch], validation: str = "validation") -> None:
    losses, accuracy = figure.subplots(1, 2)
    numbers = [row.epoch for row in epochs]
    best = max(row.epoch for row in epochs if row.best)
    marker = "o" if len(epochs) == 1 else ""
    losses.plot(numbers, [row.loss for row in epochs], color=GREY, label="train", marker=marker)
    losses.plot(numbers, [row.val_loss for row in epochs], color=BLUE, label=validation, marker=marker)
    losses.set(xlabel="epoch", ylabel="loss")
    accuracy.plot(numbers, [100 * row.val_top1 for row in epochs], color=BLUE, label=validation, marker=marker)
    accuracy.set(xlabel="epoch", ylabel="top-1, %", ylim=(-2, 102))
    for axes in (losses, accuracy):
        axes.axvline(best, color=RED, linewidth=1, linestyle=":", label="kept")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)


def draw_confusion(figure: Figure, result: Mapping[str, Any]) -> None:
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


def draw_reliability(figure: Figure, runs: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Fraction right over confidence, a line a `(name, calibration)`; on the diagonal a model is as right as it is sure."""
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle="--")
    for place, (name, calibration) in enumerate(runs):
        bins = calibration["bins"]
        sure, right = ([100 * row[key] for row in bins] for key in ("confidence", "right"))
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(sure, right, color=colour, linewidth=1.2, label=name)
        most = max(row["clips"] for row in bins)
        axes.scatter(sure, right, s=[8 + 60 * row["clips"] / most for row in bins], color=colour, alpha=0.6, linewidths=0)
    axes.set(xlabel="confidence, %", ylabel="right, %", xlim=(0, 102), ylim=(-2, 102))
    axes.spines[["top", "right"]].set_visible(False)
    if len(runs) > 1:
        axes.legend(frameon=False)


def draw_attention(figure: Figure, clips: Mapping[str, Sequence[tuple[str, Array]]]) -> None:
    """A small graph a clip: each `(run, shares of its steps)` as a line over the clip's time; at 1, a step counts the mean."""
    rows = figure.subplots(1, len(clips), sharey=True, squeeze=False)
    for axes, (clip, lines) in zip(rows[0], clips.items(), strict=True):
        for place, (name, shares) in enumerate(lines):
            times = 100 * (np.arange(len(shares)) + 0.5) / len(shares)
            axes.plot(times, shares * len(shares), color=COLOURS[place % len(COLOURS)], linewidth=1.2, label=name)
        _name(axes, clip)
    rows[0][0].set_ylabel("weight of a step, mean 1")
    if len(next(iter(clips.values()))) > 1:
        rows[0][-1].legend(frameon=False)


def _name(axes: Axes, clip: str) -> None:
    axes.set_title(clip if len(clip) <= 28 else "…" + clip[-27:], fontsize=8, parse_math=False)
    axes.set(xlabel="time, %", xlim=(0, 100))
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
