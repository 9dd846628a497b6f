"""What other programs read of a training's figures: TensorBoard event files in the run folder, and an MLflow run where one is asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from pipeline.learning.epochs import Epoch, read_figures
from pipeline.runs import tracking
from pipeline.runs.run_folder import Run

EVENTS = "tensorboard"
FIGURES = ("loss", "val_loss", "val_top1", "lr", "seconds")
SCORES = ("top1", "top5", "macro_f1")


@contextmanager
def opened(folder: Path, before: Sequence[Epoch]) -> Iterator[Callable[[Epoch], None]]:
    """Takes the figures of every epoch that follows those of `before`, which are written again, so that no step is there twice."""
    from tensorboardX import SummaryWriter

    shutil.rmtree(folder / EVENTS, ignore_errors=True)
    mlflow = tracking.Tracked(folder) if tracking.is_asked() else None
    with closing(SummaryWriter(str(folder / EVENTS))) as events:

        def add(figures: Epoch, ended: float | None = None) -> None:
            for name, value in told(figures).items():
                events.add_scalar(name, value, figures.epoch, walltime=ended)
            if mlflow:
                mlflow.add(figures.epoch, told(figures))

        ended = time.time() - sum(row.seconds for row in before)
        for row in before:
            ended += row.seconds
            add(row, ended)
        events.flush()

        def add_now(figures: Epoch) -> None:
            add(figures)
            events.flush()

        yield add_now


def told(figures: Epoch) -> dict[str, float]:
    """The columns of `metrics.csv` that are curves."""
    return {name: value for name, value in asdict(figures).items() if name in FIGURES}


def finish(run: Run, page: Path | None = None) -> None:
    """The scores of a finished run beside its settings, where they are not yet; MLflow gets its files, and its report page."""
    scores = {f"{run.scores['split']}_{name}": float(run.scores[name]) for name in SCORES}
    if not (run.folder / EVENTS / "scores").exists():
        _add_scores(run, scores)
    if tracking.is_asked():
        mlflow = tracking.Tracked(run.folder)
        for row in read_figures(run.folder):
            mlflow.add(row.epoch, told(row))
        mlflow.finish(scores, page)


def _add_scores(run: Run, scores: dict[str, float]) -> None:
    """A row of TensorBoard's table of hyperparameters."""
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    with closing(SummaryWriter(str(run.folder / EVENTS / "scores"))) as events:
        for summary in hparams(tracking.plain(run), scores):
            events.file_writer.add_summary(summary)
        for name, value in scores.items():
            events.add_scalar(name, value)
