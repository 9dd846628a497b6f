"""A trained model that says what windows show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.data.batch import Batch
from pipeline.data.table import UNKNOWN
from pipeline.errors import UserError
from pipeline.runs.scoring.metrics import answers
from pipeline.runs.trained import Trained
from pipeline.runs.training import predictor_of
from pipeline.spotting.glosses import NOTHING, Guess
from pipeline.spotting.windows import Rows

VIDEO = "rgb"


class Recogniser:
    """Guesses of windows, by probabilities at a temperature. Raises UserError for a model that reads more than the frames of a video."""

    def __init__(self, trained: Trained, device: str, temperature: float = 1.0) -> None:
        self.trained, self.device, self.temperature = trained, device, temperature
        others = [modality for modality in trained.modalities if modality != VIDEO]
        if others:
            raise UserError(
                f"the run reads {' and '.join(others)} of every clip, and a video is {VIDEO} alone; spot with a run of other stages: "
                f"signcache train {trained.run.dataset} {trained.run.model} --set stages=..."
            )
        self.classes: Sequence[str] = trained.run.record["classes"]
        dims = {stage.name: math.prod(stage.extractor.row_shape) for stage in trained.stages}
        self.predictor = predictor_of(trained.run, trained.recipe, dims, device)

    def guesses(self, windows: Sequence[Rows | None]) -> list[Guess]:
        """The likeliest label of each window, in one batch; none of a window of which a stage makes no rows."""
        found = [NOTHING] * len(windows)
        given = [(number, rows) for number, rows in enumerate(windows) if rows and all(len(part) for part in rows.values())]
        if given:
            names, shares, order = answers(self.logits([rows for _, rows in given]), self.classes, self.trained.run.record["learned"])
            for (number, _), row, places in zip(given, shares, order, strict=True):
                found[number] = Guess(names[places[0]], float(row[places[0]]))
        return found

    def logits(self, windows: Sequence[Rows]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """`(B, C)` float32, at the temperature."""
        features, lengths = {}, {}
        for stage in self.trained.stages:
            clips = [torch.from_numpy(np.array(rows[stage.name])) for rows in windows]
            features[stage.name] = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
            lengths[stage.name] = torch.tensor([len(clip) for clip in clips])
        ids = tuple(str(number) for number in range(len(windows)))
        batch = Batch(ids, features, lengths, torch.full((len(windows),), UNKNOWN))
        return np.asarray(self.predictor.logits(batch) / self.temperature, np.float32)
