"""Landmarks that the page makes in the browser, so that no picture leaves it: npm's @mediapipe/holistic, which lies on this machine.

They are not quite those of the stage `holistic`: on ten frames of a drawn clip, by WebGL in software beside MediaPipe 0.10.14 on the CPU,
the same parts were seen, and x and y differed by 0.0160 at most and 0.0038 on average (pose), 0.0120 and 0.0014 (hands), 0.0010 and
0.0004 (face); z of the pose by 0.064 at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.runs.trained import Trained
from pipeline.serving.rows import form_of

PACKAGE = "@mediapipe/holistic"
VERSION = "0.5.1675471629"
"""The one that the page was tried with."""
KIND = "holistic"
SCRIPT = "holistic.js"


@dataclass(frozen=True)
class BrowserLandmarks:
    """The npm package's folder, and how sure its detectors must be, as the model's stage was."""

    folder: Path
    detection_confidence: float
    tracking_confidence: float

    def document(self) -> dict[str, float]:
        """What the page is told."""
        return {"detection_confidence": self.detection_confidence, "tracking_confidence": self.tracking_confidence}


def landmarks_of(trained: Trained, folder: Path) -> BrowserLandmarks:
    """Landmarks of a model's stage by what npm put into a folder. Raises UserError where the model reads others, or nothing is there."""
    form_of(trained)
    root = next(stage for stage in trained.chain if stage.upstream is None)
    if root.kind != KIND:
        raise UserError(f"--landmarks makes rows of {KIND} in the browser, and the model reads {root.kind}; leave it out")
    found = next((place for place in (folder, folder / "node_modules" / PACKAGE) if (place / SCRIPT).is_file()), None)
    if found is None:
        raise UserError(f"--landmarks {folder}: there is no {SCRIPT}; run: npm install --prefix {folder} {PACKAGE}@{VERSION}")
    how = root.extractor.model_dump()
    return BrowserLandmarks(found, how["detection_confidence"], how["tracking_confidence"])
