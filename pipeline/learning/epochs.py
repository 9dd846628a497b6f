"""The figures of every epoch: kept as a table in the run folder, shown while a training runs."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline import atomic

FIGURES = "metrics.csv"
QUIET_SECONDS, QUIET_EPOCHS = 5.0, 10


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures of one epoch: mean losses, fraction right on validation, learning rate at its end."""

    epoch: int
    loss: float
    val_loss: float
    val_top1: float
    lr: float
    seconds: float
    best: int = 0
    """1 where no epoch before was better: the last such epoch's weights are the run's."""

    def line(self, of: int) -> str:
        """`epoch 3/150  loss 0.4321  val loss 0.5012  val top-1 81.2 %  lr 0.0001  1.3 s`."""
        return (
            f"epoch {self.epoch}/{of}  loss {self.loss:.4f}  val loss {self.val_loss:.4f}  "
            f"val top-1 {100 * self.val_top1:.1f} %  lr {self.lr:.3g}  {self.seconds:.1f} s"
        )


def write_figures(folder: Path, figures: list[Epoch]) -> None:
    """`metrics.csv` of a run folder, one row an epoch."""
    out = io.StringIO()
    table = csv.DictWriter(out, list(asdict(figures[0])), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in figures)
    atomic.replace(folder / FIGURES, out.getvalue().encode())


def read_figures(folder: Path) -> list[Epoch]:
    """The figures of every epoch; none where the recipe has no epochs."""
    path = folder / FIGURES
    if not path.exists():
        return []
    whole = {"epoch", "best"}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Epoch(**{key: int(value) if key in whole else float(value) for key, value in row.items()}) for row in rows]  # type: ignore[arg-type]


class Display:
    """A bar on a terminal, else a plain line every ten epochs or five seconds; on stderr."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.said = epochs, time.monotonic()
        self.console = Console(stderr=True, soft_wrap=True)
        self.bar: Progress | None = None
        if self.console.is_terminal:
            columns = (BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self.bar = Progress(*columns, console=self.console)

    def __enter__(self) -> Display:
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task("", total=self.epochs)
        return self

    def show(self, figures: Epoch) -> None:
        """One more epoch is done."""
        line, now = figures.line(self.epochs), time.monotonic()
        if self.bar:
            self.bar.update(self.task, completed=figures.epoch, description=line)
        elif figures.epoch % QUIET_EPOCHS == 0 or figures.epoch in (1, self.epochs) or now - self.said > QUIET_SECONDS:
            self.said = now
            self.console.print(line, highlight=False, markup=False)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
