"""Spot: glosses of long videos, how sure a run must be, and how well it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import device_option, home_of, json_option, pairs, print_json

if TYPE_CHECKING:
    from pipeline.runs.calibration.thresholds import Thresholds
    from pipeline.spotting.gate import Gate
    from pipeline.spotting.glosses import Gloss
    from pipeline.spotting.spot import Spotted, Way

EXIT_FAILURES = 1
WINDOW = 60
"""Frames, as in Insignia."""
PUBLISHED = ("insignia", "insignia-web")


GATE_HELP = "When a word is believed; the published ones are taken as they are [default: calibrated, if it is]."
SENTENCE_HELP = "Write English, by rules or by a causal language model: its folder, or its name in the local hub cache."
WINDOW_HELP = "Of a window [default: as long as the clips that were learned, where it is calibrated, else 60]."


def gate_options(command: Any) -> Any:
    """The options of what is looked at and believed, which spot and live share."""
    options = (
        click.option("--gate", type=click.Choice(["calibrated", *PUBLISHED]), help=GATE_HELP),
        click.option("--threshold", type=click.FloatRange(0, 1), metavar="P", help="How probable a guess must be [default: the gate's]."),
        click.option("--window", type=click.IntRange(min=1), metavar="FRAMES", help=WINDOW_HELP),
        click.option("--stride", type=click.IntRange(min=1), default=1, show_default=True, metavar="FRAMES", help="From guess to guess."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def sentence_options(command: Any) -> Any:
    """The options of sentences, which spot and live share."""
    context = click.option("--context", multiple=True, metavar="WORD", help="What is known besides, for --sentence. Repeats.")
    sentence = click.option("--sentence", metavar="rules|MODEL", help=SENTENCE_HELP)
    return sentence(context(command))


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("video", type=click.Path(path_type=Path))
@click.option(
    "--out", "outs", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="Write .eaf, .csv, .json, .vtt or .mp4. Repeats."
)
@gate_options
@click.option("--segments", metavar="NAME", help="Cut the video into signs first, by a file of pipeline/spotting/segmenters: wrist_flow.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="A setting of --segments. Repeats.")
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="FILE", help="Score against the true glosses of an .eaf, .csv, .json or .vtt."
)
@click.option("--tier", default="", help="Of --against, where an .eaf has several.")
@sentence_options
@device_option
@json_option
@click.pass_context
def spot(ctx: click.Context, /, run: Path, video: Path, outs: tuple[Path, ...], against: Path | None, **given: Any) -> None:
    """Find the signs in a long video: label, start, end and probability of each.

    RUN is a run folder or a package. A window slides over the frames, and a word is believed after enough guesses in a row that agree and
    are sure; or each segment is guessed once. Rows are made once a video and kept in the cache. Exit status 0 also where nothing is found.
    """
    from pipeline.runs.packaging.reading import opened
    from pipeline.spotting import files
    from pipeline.spotting.glosses import sentences_of
    from pipeline.spotting.scoring import score
    from pipeline.spotting.spot import spot

    home, device = home_of(ctx), given["device"]
    for out in outs:
        files.checked(out)
    truth = files.read(against, given["tier"]) if against else None
    write = writer_of(given)
    with opened(home, run, of_videos=True) as trained:
        found = spot(home, trained, video, way_of(trained.run.folder, given), device=device)
    text = " ".join(filter(None, map(write, sentences_of(found.glosses))))
    for out in outs:
        _write(out, found.glosses, video, text)
    _say(found, text, None if truth is None else score(found.glosses, truth), given["as_json"])


def writer_of(given: Mapping[str, Any]) -> Callable[[Sequence[str]], str]:
    """What makes a sentence of labels; without --sentence it makes none."""
    from pipeline.errors import UserError
    from pipeline.machine import chosen_device

    name, context = given["sentence"], given["context"]
    if not name and context:
        raise UserError("--context is for sentences; give --sentence rules too")
    if not name:
        return lambda labels: ""
    from pipeline.spotting.sentences.writer import writer

    made = writer(name, chosen_device(given["device"]))
    return lambda labels: made.sentence(labels, context)


def way_of(folder: Path, given: Mapping[str, Any]) -> Way:
    """How a run looks at frames: as it was calibrated, else as published, but for what the options say."""
    from pipeline import registry
    from pipeline.errors import UserError
    from pipeline.runs.calibration import thresholds
    from pipeline.spotting.spot import Way

    segments, settings = given.get("segments"), given.get("settings", ())
    if settings and not segments:
        raise UserError("--set sets what --segments names; give it too, as in --segments wrist_flow")
    said = thresholds.read(folder)
    gate, temperature = _gate(folder, said, given["gate"], given["threshold"])
    segmenter = registry.create("segmenter", segments, pairs(settings)) if segments else None
    is_published = given["gate"] in PUBLISHED
    seconds = said.window_seconds if said and not given["window"] and not is_published else None
    return Way(gate, given["window"] or WINDOW, seconds, given["stride"], temperature, segmenter)


def _gate(folder: Path, said: Thresholds | None, asked: str | None, threshold: float | None) -> tuple[Gate, float]:
    """The gate by its name and the temperature of its probabilities: that of a published one is 1."""
    from pipeline.errors import UserError
    from pipeline.spotting.gate import GATES, INSIGNIA, Gate

    if asked == "calibrated" and not said:
        raise UserError(f"{folder} is not calibrated yet; run: signcache calibrate {folder}, or use --gate {INSIGNIA}")
    if not asked and not said:
        click.echo(f"not calibrated, so the gate of Insignia is used; see: signcache calibrate {folder}", err=True)
    gate, temperature = GATES.get(asked or "", GATES[INSIGNIA]), 1.0
    if said and asked not in GATES:
        gate, temperature = Gate(gate.frames, said.threshold), said.temperature
    return (gate if threshold is None else Gate(gate.frames, threshold)), temperature


def _write(out: Path, glosses: list[Gloss], video: Path, text: str) -> None:
    from pipeline.spotting import files, overlay

    if out.suffix.lower() == ".mp4":
        overlay.write(out, video, glosses, text)
    else:
        files.write(out, glosses, video)
    click.echo(f"{out}: {len(glosses)} glosses", err=True)


def _say(found: Spotted, text: str, scores: dict[str, object] | None, as_json: bool) -> None:
    from pipeline.spotting.glosses import document

    if found.empty:
        click.echo(f"{found.empty} of {found.looked_at} windows or segments gave no rows, and are no sign", err=True)
    if as_json:
        print_json({"glosses": document(found.glosses), **({"sentence": text} if text else {}), **({"scores": scores} if scores else {})})
        return
    for gloss in found.glosses:
        click.echo(gloss.line())
    if not found.glosses:
        click.echo("no signs found", err=True)
    if text:
        click.echo(text)
    if scores:
        f1 = ", ".join(f"{share} {value:.1%}" for share, value in scores["f1"].items())  # type: ignore[attr-defined]
        click.echo(f"gloss error rate {scores['gloss_error_rate']:.1%} of {scores['glosses']} glosses; segment F1 at {f1}")


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["val", "test"]), default="val", show_default=True, help="Clips to calibrate on.")
@click.option("--unseen", multiple=True, type=click.Path(path_type=Path), metavar="PLACE", help="Clips of other signs to measure on.")
@click.option(
    "--leave-out",
    "parts",
    type=click.IntRange(min=2),
    metavar="N",
    help="Train N times without a part of the classes, to know unknown signs.",
)
@click.option("--false-accepts", "most", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Of other signs, at most.")
@device_option
@json_option
@click.pass_context
def calibrate(ctx: click.Context, /, run: Path, split: str, as_json: bool, **given: Any) -> None:
    """Choose how sure a run must be before a word is believed, on clips that it did not learn from.

    Writes thresholds.json beside the weights, which spot and live use: a temperature, a threshold, the length of a window, and the
    share of unknown signs that are accepted all the same. Without --leave-out that is an estimate, and often too good.
    """
    from dataclasses import asdict

    from pipeline.runs.calibration import thresholds
    from pipeline.runs.calibration.calibrate import Strange
    from pipeline.runs.calibration.calibrate import calibrate as chosen

    folder = run.absolute()
    strange = Strange(given["unseen"], given["parts"] or 0)
    said = chosen(home_of(ctx), folder, split, strange, most=given["most"], device=given["device"])
    path = thresholds.write(folder, said)
    if as_json:
        print_json({"run": str(folder), **asdict(said)})
    else:
        click.echo(f"{path}: {_told(said)}")


def _told(said: Thresholds) -> str:
    measured = ""
    if said.unseen_accepts is not None:
        needs = f", which needs {said.unseen_threshold:.4f} to be as asked" if said.unseen_threshold is not None else ""
        measured = f", measured on {said.unseen} clips of classes that were not learned {said.unseen_accepts:.1%}{needs}"
    window = f"; windows of {said.window_seconds:.2f} s" if said.window_seconds else ""
    known = f"{said.accepted:.1%} of {said.clips} {said.split} clips are said rightly"
    unknown = f"of unknown signs {said.false_accepts:.1%} would be believed (estimated{measured})"
    return f"threshold {said.threshold:.3f} at temperature {said.temperature:.2f}: {known}; {unknown}{window}"


COMMANDS = (spot, calibrate)
