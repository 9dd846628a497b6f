"""One self-contained page for a run: what it is worth beside chance, how it got there, where it errs, what it was made from."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import atomic
from pipeline.cache.provenance import trainings
from pipeline.decoding.decode import Clip, decoded
from pipeline.errors import ClipError
from pipeline.learning.epochs import Epoch, read_figures
from pipeline.machine import shown_size, shown_time
from pipeline.reports._pictures import draw_attention, draw_confusion, draw_curves, draw_reliability, draw_score, is_image, picture
from pipeline.runs.packaging import card
from pipeline.runs.run_folder import REPORT, Run
from pipeline.runs.scoring.gain import in_words

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.reports.attention import Attention

TEMPLATE = Path(__file__).with_suffix(".html")
PAIRS = 15
FRAMES = 4
NO_PICTURES = dict.fromkeys(("score", "curves", "confusion", "reliability", "attention"), "")


def write(run: Run, attention: Attention | None = None, whys: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Write `report.html` and a model card into the run's folder; raises UserError where the run is unfinished."""
    from jinja2 import Environment, StrictUndefined

    result, epochs = run.scores, read_figures(run.folder)
    learned_all = run.record["settings"].get("learn") == "all"
    place, is_scored = {label: number for number, label in enumerate(result.get("classes", ()))}, "top1" in result
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text("utf-8"))
    text = page.render(
        record=run.record,
        result=result,
        percent=percent,
        is_scored=is_scored,
        pictures=_pictures(result, epochs, attention, learned_all=learned_all) if is_scored else NO_PICTURES,
        learned_all=learned_all,
        attention=attention,
        cost=cost_of(result),
        folds=result.get("folds"),
        gained=in_words(result["plain_mean"]) if "plain_mean" in result else "",
        part=run.record.get("part"),
        imported=run.record.get("imported"),
        best=next((row for row in reversed(epochs) if row.best), None),
        epochs=len(epochs),
        pairs=_confused(result) if is_scored else [],
        worst=[{**clip, "frames": frames_of(run, clip["media"])} for clip in result.get("worst", [])],
        whys=whys,
        per_class=[{**row, "index": place[row["label"]]} for row in sorted(result.get("per_class", ()), key=lambda row: row["f1"])],
        settings={key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in run.record["settings"].items()},
        origin=origin_of(run.record),
        trainings=trainings,
        inputs=_inputs(run.record),
        fingerprints=json.dumps({name: stage["identity"] for name, stage in run.record["stages"].items()}, indent=1, ensure_ascii=False),
        environment={key: value for key, value in run.record["environment"].items() if key != "argv"},
    )
    path = run.folder / REPORT
    atomic.replace(path, text.encode("utf-8", errors="backslashreplace"))
    card.write(run)
    return path


def percent(share: float) -> str:
    """`81.2 %`."""
    return f"{100 * share:.1f} %"


def origin_of(record: Mapping[str, Any]) -> str:
    """Where a run's settings come from, in words; empty of a member of another run, and of a run that an older signcache trained."""
    origin = record.get("origin")
    if not origin:
        return ""
    known = {"tuned": "the corpus' own (settings=tuned)", "published": "those of its source (settings=published)"}
    named = " and also ".join(known[preset] for preset in origin["presets"])
    beside = " ".join(f"{key}={value}" for key, value in origin["set"].items())
    return f"{named or 'chosen for this run'}{f'; set beside them: {beside}' if beside else ''}"


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
    for modality, paths in media.items():
        path = Path(run.record["manifest"]["root"]) / paths[0]
        try:
            images = decoded([path], _chosen, modality=modality, decord=False)
        except (ClipError, OSError):
            continue
        if images:
            return [_thumbnail(image) for image in images]
    return []


def _chosen(clip: Clip) -> list[Image.Image]:
    """Frames spread over a clip, without its ends."""
    from PIL import Image

    wanted = np.unique(np.linspace(0, clip.length - 1, FRAMES + 2).astype(np.int64)[1:-1])
    return [Image.fromarray(image) for (image,) in clip.frames(wanted) if is_image(image)]


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((180, 135))
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _pictures(result: Mapping[str, Any], epochs: list[Epoch], attention: Attention | None, *, learned_all: bool) -> dict[str, str]:
    """Each picture as the text of an image's address; empty where there is nothing to draw."""
    calibration, clips = result.get("calibration"), attention.clips if attention else {}
    lines = {clip: [("", shares)] for clip, shares in clips.items()}
    validation = "validation, learned too" if learned_all else "validation"
    return {
        "score": picture((8.5, 1.3), lambda figure: draw_score(figure, result)),
        "curves": picture((9, 3), lambda figure: draw_curves(figure, epochs, validation)) if epochs else "",
        "confusion": picture((8, 7), lambda figure: draw_confusion(figure, result)),
        "reliability": picture((4.5, 4), lambda figure: draw_reliability(figure, [("", calibration)])) if calibration else "",
        "attention": picture((9, 2.4), lambda figure: draw_attention(figure, lines)) if lines else "",
    }


def cost_of(result: Mapping[str, Any]) -> dict[str, str]:
    """What a training took, in words; nothing of a run that an older signcache trained."""
    if "seconds" not in result:
        return {}
    words = {
        "parameters trained": f"{result['parameters']:,}",
        "training": shown_time(result["seconds"]),
        "most memory of the process": shown_size(result["peak_memory_bytes"]),
    }
    device = {"most memory of the device": shown_size(result["peak_device_bytes"])} if "peak_device_bytes" in result else {}
    return words | device
