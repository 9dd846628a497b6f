"""The card of a run for people, as model hubs show it: what it labels, what it learned from, what it scored, its doubts and licences."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.cache import weights
from pipeline.cache.provenance import trainings
from pipeline.machine import shown_size, shown_time
from pipeline.runs.run_folder import Run

CARD = "MODEL_CARD.md"
UNKNOWN_LICENCE = "not stated; ask who trained it"
WEAKEST = 10
"""Classes that the card names."""
LICENCES: Mapping[str, str] = {
    "IMAGENET1K_V1": "torchvision's, BSD-3-Clause; they learned from ImageNet, whose images are for non-commercial research",
    "IMAGENET1K_V2": "torchvision's, BSD-3-Clause; they learned from ImageNet, whose images are for non-commercial research",
    "mediapipe": "MediaPipe's own models, Apache-2.0",
}
SPECIAL = re.compile(r"([\\`*_{}\[\]|~])")


def write(run: Run) -> Path:
    """Write `MODEL_CARD.md` into the folder of a finished run."""
    stages = {name: said["identity"] for name, said in run.record["stages"].items()}
    path = run.folder / CARD
    atomic.replace(path, card(run, stages, UNKNOWN_LICENCE).encode("utf-8", errors="backslashreplace"))
    return path


def card(run: Run, stages: Mapping[str, Mapping[str, Any] | None], licence: str) -> str:
    """Markdown led by what model hubs read of it (JSON, which is YAML); whatever a corpus calls its labels stays text.

    `stages` are the identities of what the model reads, and of what that derives from where it is known.
    """
    scores, record = run.scores, run.record
    learned = record.get("learned", record["classes"])
    trained = {stage: found for said in record["stages"].values() for stage, found in said.get("histories", {}).items()}
    parts: list[tuple[str, Sequence[str]]] = [
        ("", [f"Labels a clip as one of {len(learned)} classes: {', '.join(map(text, learned))}."]),
        ("Learned from", _learned_from(record)),
        ("Scores", list(_scores(record, scores)) if "top1" in scores else ["It was not scored."]),
        ("Doubts", _doubts(record)),
        ("Limits", _limits(scores)),
        ("Reads", [line for name, said in stages.items() for line in _stage(name, said, trained.get(name, ()))]),
        ("Training", list(_training(record, scores))),
        ("Licence", _licence(stages, trained, licence)),
    ]
    lines = [f"# {text(run.model)} on {text(run.dataset)}"]
    for title, own in parts:
        lines += ["", *([f"## {title}", ""] if title else []), *own]
    return f"---\n{json.dumps(_led(run, licence), indent=1, ensure_ascii=False)}\n---\n\n" + "\n".join(lines) + "\n"


def text(value: object) -> str:
    """A value as nothing but text: on one line, without what Markdown or HTML would read in it."""
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in str(value)).split())
    return html.escape(SPECIAL.sub(r"\\\1", words), quote=False)


def _led(run: Run, licence: str) -> dict[str, Any]:
    """What model hubs read: https://huggingface.co/docs/hub/model-cards."""
    led: dict[str, Any] = {
        "license": "unknown" if licence == UNKNOWN_LICENCE else licence.lower(),
        "library_name": "signcache",
        "pipeline_tag": "video-classification",
        "tags": ["sign-language", "gesture-recognition", run.model],
    }
    if "top1" not in run.scores:
        return led
    metrics = [{"type": kind, "value": run.scores[figure]} for kind, figure in (("accuracy", "top1"), ("f1", "macro_f1"))]
    data = {"name": run.dataset, "type": run.dataset, "split": run.scores["split"]}
    result = {"task": {"type": led["pipeline_tag"]}, "dataset": data, "metrics": metrics}
    return {**led, "model-index": [{"name": f"{run.model} on {run.dataset}", "results": [result]}]}


def _learned_from(record: Mapping[str, Any]) -> list[str]:
    if record.get("imported"):
        return ["Its weights came in a checkpoint of another program, which does not say what they learned from."]
    counts = ", ".join(f"{text(split)} {count}" for split, count in record["clips"].items() if count)
    by = text(record["manifest"]["split"]) if "manifest" in record else ""
    dropped = len(record.get("dropped", ()))
    lost = f" {dropped} clips were left out for want of features." if dropped else ""
    began = [f"- The weights of {text(stage)} that it began with: {text(line)}." for stage, line in trainings(record.get("begins", {}))]
    own = f"Corpus {text(record['dataset'])}, clips by split{f' ({by})' if by else ''}: {counts}.{lost}"
    return [own, *(["", *began] if began else [])]


def _scores(record: Mapping[str, Any], scores: Mapping[str, Any]) -> Iterator[str]:
    """A table of figures, then the weakest classes."""
    spread, chance = scores.get("interval") or {}, scores.get("chance") or {}
    known = spread.get("low") is not None
    within = f"{spread['low']:.1%} to {spread['high']:.1%}, by {spread['by']}" if known else "too few groups for one"
    is_unheard = scores.get("selected_on_scored", True) or record.get("imported")
    unseen = "" if is_unheard else ", none of which trained it or selected its weights"
    yield f"Of {scores['n']} clips, {text(scores['split'])}{unseen}."
    yield from ("", "| figure | value | 95 % interval |", "|---|---|---|", f"| top-1 | {scores['top1']:.1%} | {within} |")
    yield f"| top-5 | {scores['top5']:.1%} | |"
    yield f"| macro F1 | {scores['macro_f1']:.3f} | |"
    if "calibration" in scores:
        yield f"| expected calibration error | {scores['calibration']['error']:.1%} | |"
    if chance:
        yield f"| for naming the most frequent class always | {chance['majority']:.1%} | |"
    weakest = sorted(scores.get("per_class", ()), key=lambda row: (row["f1"], row["label"]))[:WEAKEST]
    if weakest:
        named = (f"{text(row['label'])} (F1 {row['f1']:.2f}, {row['clips']} clips)" for row in weakest)
        yield from ("", f"The weakest classes: {', '.join(named)}.")


def _doubts(record: Mapping[str, Any]) -> list[str]:
    """What training warned of: leaks first of all."""
    own = [f"- {text(line)}" for line in record.get("warnings", ())]
    return own or [
        "None were found: no clip that scored holds the same bytes as one that trained it, and where signers or other groups of clips "
        "are known, none is on both sides."
    ]


def _limits(scores: Mapping[str, Any]) -> list[str]:
    by = (scores.get("interval") or {}).get("by", "clip")
    held = "Signers were not known, so that those who score may have trained it too. " if by == "clip" else ""
    return [
        f"It knows no other signs than these classes and says one of them of any clip. {held}How it does on signers, cameras and rooms "
        "unlike those that it was scored on is not known. It labels one sign a clip; it is no interpreter, and nothing that matters to "
        "somebody's health, rights or safety should rest on it alone."
    ]


def _stage(name: str, said: Mapping[str, Any] | None, trained: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a stage is, then a line for each training that its weights went through."""
    if said is None:
        yield f"- {text(name)}: other features are published under this name by now"
        return
    of = f", weights {text(weights.phrase(said['weights']))}" if said.get("weights") else ""
    libraries = "".join(f", {text(library)} {text(version)}" for library, version in said["libraries"].items())
    yield f"- {text(name)}: {text(said['class'])} of {text(said['fields'].get('source', ''))}{of}{libraries}"
    yield from (f"  - {text(line)}." for _, line in trainings({name: trained}))


def _training(record: Mapping[str, Any], scores: Mapping[str, Any]) -> Iterator[str]:
    cost = f", {shown_time(scores['seconds'])}, at most {shown_size(scores['peak_memory_bytes'])}" if "peak_memory_bytes" in scores else ""
    parameters = f"{scores['parameters']:,} parameters, " if "parameters" in scores else ""
    yield f"{parameters}seed {record['seed']}{cost}. Again by:"
    yield from ("", "    " + " ".join(str(record["command"]).split()), "")
    settings = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in record["settings"].items()}
    yield from (f"- {text(key)}: {text(value)}" for key, value in settings.items())


def _licence(stages: Mapping[str, Mapping[str, Any] | None], trained: Mapping[str, Sequence[Mapping[str, Any]]], licence: str) -> list[str]:
    found = [f"- Of the trained weights: {text(licence)}."]
    for name, said in stages.items():
        given = (said or {}).get("weights") or {}
        if "sha256" in given:
            own = _licence_of_file(trained.get(name, ()))
        else:
            own = _known([given["name"]] if "name" in given else list((said or {}).get("libraries", ())))
        found += [f"- Of the weights of {text(name)}: {line}." for line in own]
    return found


def _licence_of_file(trained: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is known of weights in a file: whose clips they learned from, and what they were before."""
    if not trained:
        return ["of who made the file; not known here"]
    corpora = ", ".join(dict.fromkeys(text(training["dataset"]) for training in trained))
    first = trained[-1]["start"]
    known = _known([first["name"]]) if "name" in first else []
    unknown = ["they began with a file of which nothing is known here"] if "sha256" in first else []
    return [f"trained by signcache on clips of {corpora}, whose licence holds for them", *known, *unknown]


def _known(sources: Sequence[str]) -> list[str]:
    return [LICENCES[source] for source in sources if source in LICENCES]
