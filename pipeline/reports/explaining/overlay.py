"""Frames of a clip with what counts drawn over them: the warmth of pixels that a network looked at, or the points of each part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.cache.stage import Stage
from pipeline.decoding.decode import Clip, decoded
from pipeline.errors import ClipError, UserError
from pipeline.layouts import Layout
from pipeline.learning.learner import Learner
from pipeline.reports._pictures import is_image
from pipeline.reports.explaining.cam import has_pictures, heat, item_pictures
from pipeline.reports.explaining.gradients import slopes
from pipeline.reports.explaining.subject import Subject
from pipeline.reports.explaining.why import Why
from pipeline.types import Array, has_network

MOST = 24
"""Frames that are drawn of a clip."""
POINTS = "points: the redder, the more hangs on their part"
COLD, HOT = np.array([40, 60, 120]), np.array([255, 70, 20])


@dataclass(frozen=True)
class Overlay:
    """`(N, H, W, 3)` uint8 pictures of one stage; `said` is what their colours mean."""

    stage: str
    frames: Array
    said: str


def overlays(subject: Subject, why: Why) -> tuple[list[Overlay], list[str]]:
    """Of every stage that has pictures to draw on, and why there are none of another."""
    found, notes = [], []
    place = subject.classes.index(why.label)
    module = getattr(subject.predictor, "module", None)
    rates = slopes(subject.recipe, module, subject.batch, place) if isinstance(subject.recipe, Learner) and module is not None else {}
    for name, stage in subject.stages.items():
        if not why.lengths[name]:
            continue
        try:
            if has_network(stage.extractor) and has_pictures(stage.extractor) and name in rates:
                items = _decoded(subject, stage, prepare=True)
                warm = heat(stage.extractor, items, rates[name])
                found.append(Overlay(name, _warmed(item_pictures(stage.extractor, items), warm), "Grad-CAM: red speaks for the label"))
            elif _is_picture(subject.layouts[name]) and stage.upstream is None:
                frames = _decoded(subject, stage, prepare=False)
                rows = subject.batch.features[name][0, : why.lengths[name]].numpy()
                shares = {part: share for (own, part), share in why.hidden.shares().items() if own == name}
                found.append(Overlay(name, _pointed(frames, rows, subject.layouts[name], shares), POINTS))
            else:
                notes.append(f"{name}: its rows have no place in a picture")
        except (ClipError, UserError, OSError) as error:
            notes.append(f"{name}: no pictures ({error})")
    return found, notes


def _decoded(subject: Subject, stage: Stage, *, prepare: bool) -> Array:
    """The frames that the stage selected, or what it prepared from them, `(N, ...)`."""
    extractor = stage.extractor

    def take(clip: Clip) -> list[Array]:
        frames = clip.frames(extractor.select(clip.length, clip.rate_hz))
        return list(extractor.prepare(frames)) if prepare else [image for (image, *_) in frames]

    found = decoded(subject.table.paths(subject.sample, extractor.source), take, modality=extractor.source)
    if not found or not (prepare or is_image(found[0])):
        raise ClipError("its media hold no pictures")
    return np.stack(found)


def _is_picture(layout: Layout | None) -> bool:
    """Whether some of the points are fractions of a picture's width and height."""
    return layout is not None and any(part.kind == "place" and part.turns == "never" and part.axes >= 2 for part in layout.parts)


def _warmed(pictures: Array, warm: Array) -> Array:
    """`(N, R, H, W, 3)` pictures under `(N, R, H, W)` of 0 to 1 -> `(n, H, R * W, 3)` of at most MOST of them."""
    kept = chosen(len(pictures))
    grey = pictures[kept].astype(np.float32).mean(-1, keepdims=True)
    share = np.clip(warm[kept], 0, 1)[..., None]
    mixed = (1 - 0.7 * share) * (0.6 * pictures[kept] + 0.4 * grey) + 0.7 * share * HOT
    return np.concatenate(list(np.moveaxis(np.clip(mixed, 0, 255).astype(np.uint8), 1, 0)), axis=2)


def chosen(count: int) -> Array:
    return np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(np.int64))


def _pointed(frames: Array, rows: Array, layout: Layout | None, shares: Mapping[str, float]) -> Array:
    """The frames with the points of every part that is seen, from cold to hot by what hangs on it."""
    from PIL import Image, ImageDraw

    assert layout is not None  # noqa: S101
    most = max(shares.values(), default=0) or 1
    found = []
    for number in chosen(len(frames)):
        image = Image.fromarray(np.ascontiguousarray(frames[number]))
        brush, radius = ImageDraw.Draw(image), max(1, round(image.width / 160))
        for part in layout.parts:
            if part.kind != "place" or part.turns != "never":
                continue
            points = rows[number, layout.columns[part.name]].reshape(part.points, part.size)[:, :2] * image.size
            share = shares.get(part.name, 0) / most
            colour = tuple((COLD + share * (HOT - COLD)).astype(int).tolist())
            for x, y in points[points.any(1) & np.isfinite(points).all(1)]:
                brush.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
        found.append(np.asarray(image))
    return np.stack(found)
