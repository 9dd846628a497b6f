"""Glosses as files: JSON, CSV, WebVTT, and EAF, which ELAN opens; each is read back as it was written."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

from pipeline import atomic
from pipeline.errors import UserError
from pipeline.spotting.glosses import Gloss, document

TIER = "glosses"
"""Where glosses stand in an EAF; the probability of each stands in a tier of its own, of which ELAN shows both."""
SHARES = "probability"
COLUMNS = ("label", "start", "end", "probability")
SUFFIXES = (".eaf", ".csv", ".json", ".vtt", ".mp4")
Text: TypeAlias = Callable[[Sequence[Gloss], Path], str]
CUE = re.compile(r"(?:(\d+):)?(\d\d):(\d\d\.\d\d\d) --> (?:(\d+):)?(\d\d):(\d\d\.\d\d\d)")


def checked(out: Path) -> Path:
    """A file that glosses can be written to; raises UserError for another ending."""
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: glosses are written as {', '.join(SUFFIXES)}; name a file that ends in one of these")
    return out


def write(out: Path, glosses: Sequence[Gloss], video: Path) -> None:
    """The glosses of a video as the ending of `out` says, in one step. Raises UserError where it cannot be written."""
    try:
        atomic.replace(out, WRITERS[checked(out).suffix.lower()](glosses, video).encode())
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; name another file with --out") from error


def read(path: Path, tier: str = "") -> list[Gloss]:
    """The glosses of a file, in the order of time; of an EAF those of a tier, by default TIER or the only one.

    A file that people made needs no probabilities: they are 1. Raises UserError for what holds no glosses.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: glosses are read from {', '.join(READERS)}")
    try:
        found = reader(path, tier)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or (f"no column or key {error}" if isinstance(error, KeyError) else error)
        raise UserError(f"cannot read glosses from {path}: {reason}") from error
    late = next((gloss for gloss in found if not 0 <= gloss.start <= gloss.end), None)
    if late:
        raise UserError(f"{path}: {late.label!r} lasts from {late.start} to {late.end} seconds; expected start before end")
    return sorted(found, key=lambda each: (each.start, each.end))


def _json(glosses: Sequence[Gloss], video: Path) -> str:
    return json.dumps({"glosses": document(glosses)}, indent=1) + "\n"


def _csv(glosses: Sequence[Gloss], video: Path) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(document(glosses))
    return out.getvalue()


def _vtt(glosses: Sequence[Gloss], video: Path) -> str:
    cues = [f"{_clock(each.start)} --> {_clock(each.end)}\n{_escaped(each.label)}\n" for each in glosses]
    return "\n".join(["WEBVTT\n", *cues])


def _clock(seconds: float) -> str:
    """`00:01:02.345`."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _escaped(label: str) -> str:
    """Text of a cue: no line may be empty, hold an arrow, or be taken for a tag."""
    return re.sub(r"\s+", " ", label).strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _eaf(glosses: Sequence[Gloss], video: Path) -> str:
    from pympi.Elan import Eaf, to_eaf

    eaf = Eaf(author="signcache")
    eaf.add_linked_file(video.absolute().as_uri(), relpath=f"./{video.name}", mimetype=_mime(video))
    eaf.remove_tier("default")
    for tier in (TIER, SHARES):
        eaf.add_tier(tier)
    for gloss in glosses:
        start, end = round(gloss.start * 1000), max(round(gloss.end * 1000), round(gloss.start * 1000) + 1)
        eaf.add_annotation(TIER, start, end, gloss.label)
        eaf.add_annotation(SHARES, start, end, f"{gloss.probability:.6f}")
    with tempfile.TemporaryDirectory() as folder:  # the library renames a file of this name, and writes none in one step
        to_eaf(Path(folder, "glosses.eaf"), eaf)
        return Path(folder, "glosses.eaf").read_text(encoding="utf-8")


def _mime(video: Path) -> str:
    import mimetypes

    return mimetypes.guess_type(video.name)[0] or "unknown"


def _of_json(path: Path, tier: str) -> list[Gloss]:
    return [_gloss(row) for row in json.loads(path.read_bytes())["glosses"]]


def _of_csv(path: Path, tier: str) -> list[Gloss]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return [_gloss(row) for row in csv.DictReader(file)]


def _gloss(row: Mapping[str, Any]) -> Gloss:
    return Gloss(str(row["label"]), float(row["start"]), float(row["end"]), float(row.get("probability") or 1))


def _of_vtt(path: Path, tier: str) -> list[Gloss]:
    head, *cues = re.split(r"\n{2,}", path.read_text(encoding="utf-8-sig").replace("\r\n", "\n").strip())
    if not head.startswith("WEBVTT"):
        raise ValueError("it does not begin with WEBVTT")
    found = []
    for lines in (cue.splitlines() for cue in cues):
        time = next((match for line in lines[:2] if (match := CUE.match(line))), None)
        if time:
            hours, minutes, seconds, *end = time.groups()
            text = " ".join(lines[1 if CUE.match(lines[0]) else 2 :])
            label = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
            found.append(Gloss(label, _seconds(hours, minutes, seconds), _seconds(*end), 1.0))
    return found


def _seconds(hours: str | None, minutes: str, seconds: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)


def _of_eaf(path: Path, tier: str) -> list[Gloss]:
    from pympi.Elan import Eaf

    ElementTree.parse(path)  # noqa: S314  # says what is wrong; expat stops entities that grow
    eaf = Eaf(str(path), suppress_version_warning=True)
    tiers = list(eaf.get_tier_names())
    name = tier or (TIER if TIER in tiers or len(tiers) != 1 else tiers[0])
    if name not in tiers:
        raise ValueError(f"no tier {name!r}; it has {', '.join(map(repr, tiers)) or 'none'}; choose with --tier")
    said = eaf.get_annotation_data_for_tier(SHARES) if SHARES in tiers and name == TIER else []
    shares = {(each[0], each[1]): float(each[2]) for each in said}
    found = eaf.get_annotation_data_for_tier(name)
    return [Gloss(each[2], each[0] / 1000, each[1] / 1000, shares.get((each[0], each[1]), 1.0)) for each in found]


WRITERS: Mapping[str, Text] = {".json": _json, ".csv": _csv, ".vtt": _vtt, ".eaf": _eaf}
READERS: Mapping[str, Callable[[Path, str], list[Gloss]]] = {".json": _of_json, ".csv": _of_csv, ".vtt": _of_vtt, ".eaf": _of_eaf}
