"""An explanation of one clip, from its rows to its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.reports.explaining import film, page
from pipeline.reports.explaining.overlay import overlays
from pipeline.reports.explaining.subject import subject_of
from pipeline.reports.explaining.why import explained


def explain(home: Home, place: Path, clip: str, out: Path, *, label: str = "") -> dict[str, Any]:
    """Write why a run or package says the label of a clip, by default its likeliest, into a folder; the same as plain values."""
    with subject_of(home, place, clip) as subject:
        why = explained(subject, label)
        drawn, notes = overlays(subject, why)
        try:
            out.mkdir(parents=True, exist_ok=True)
            written = page.write(out, subject, why, drawn, notes)
            film.write(out, drawn, why)
            found = {"run": str(place), "page": str(written), **page.figures(subject, why), "notes": [*why.notes, *notes]}
            atomic.replace(out / "explanation.json", json.dumps(found, indent=1).encode())
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}; name another folder: --out DIR") from error
    return found
