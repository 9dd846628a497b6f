"""`make bench`: every promise of speed beside its rival in one run.

python -m tests.bench [reader|extract|threads|plan|train|live|serve|export] [--quick] [--out DIR]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
from rich.console import Console

from pipeline.corpus.manifest import Home
from tests.bench import exporting, extracting, gpu, live, memory, planning, reader, results, serving, threads, training
from tests.bench.rows import Row

WIDTH = 160
"""Columns where there is no terminal."""
Part = Callable[[bool, Path], Iterator[Row]]


def _reader(quick: bool, folder: Path) -> Iterator[Row]:
    return reader.rows(reader.Size(clips=512, processes=1, rounds=3, cold=2) if quick else reader.Size(), folder)


def _extract(quick: bool, folder: Path) -> Iterator[Row]:
    yield from extracting.rows(quick, folder)
    yield from gpu.rows(quick, folder / "gpu")
    yield from memory.rows(quick, folder / "memory")


PARTS: Mapping[str, Part] = {
    "reader": _reader,
    "train": training.rows,
    "extract": _extract,
    "threads": threads.rows,
    "plan": planning.rows,
    "live": live.rows,
    "serve": serving.rows,
    "export": exporting.rows,
}


@click.command()
@click.argument("only", required=False, type=click.Choice(list(PARTS)))
@click.option("--quick", is_flag=True, help="Fewer clips and rounds: a look at whether everything runs.")
@click.option("--out", type=click.Path(path_type=Path), default=Home().cache / "bench", help="Where the results go.")
def main(only: str | None, quick: bool, out: Path) -> None:
    """Measure one part, or all; exit status 1 where a row is below its floor."""
    began, found = time.monotonic(), results.machine()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(results.said(found), highlight=False, markup=False, soft_wrap=True)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    try:
        for name in [only] if only else PARTS:
            with tempfile.TemporaryDirectory(prefix=".clips-", dir=out) as folder:  # on a disk: a file system in memory is never cold
                for row in PARTS[name](quick, Path(folder)):
                    rows.append(row)
                    console.print(results.line(row), highlight=False, markup=False, soft_wrap=True)
    finally:  # rows took minutes each: a part that fails, or Ctrl-C, loses none
        path = results.keep(out, found, rows, time.monotonic() - began)
        below = results.show(found, rows, path, console)
    sys.exit(below)


if __name__ == "__main__":
    main()
