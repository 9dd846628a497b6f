"""The two files of a bound name: `NAME.json`, which leads, and the table of clips that it names by its digest, `NAME.csv`."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import atomic
from pipeline.corpus import clip_table
from pipeline.errors import NewerFormat, UserError
from pipeline.types import Sample

FORMAT = 1


@dataclass(frozen=True)
class Binding:
    """What a name stands for: corpus, root, how it is split, and the seed of that."""

    corpus: str
    root: Path
    split: str
    seed: int


@dataclass(frozen=True)
class Bound:
    """What `NAME.json` holds: also the clips that are away, and the digest of the table of the others, which older ones lack."""

    binding: Binding
    classes: tuple[str, ...]
    away: tuple[Sample, ...]
    table: str


def read(file: Path) -> Bound | None:
    """What a name is bound to; None where it is not. Raises UserError where `NAME.json` is damaged or cannot be read."""
    anew = f"restore it, or delete it and bind the name anew: signcache manifest {file.stem} --corpus CORPUS --root DIR"
    try:
        with _damage(file, anew):
            said = json.loads(file.read_bytes())
            if said["format"] > FORMAT:
                raise NewerFormat(file, said["format"], FORMAT)
            binding = Binding(said["corpus"], Path(said["root"]), said["split"], said["seed"])
            away = tuple(Sample(clip, {}, label, split, signer) for clip, label, split, signer in said.get("away", ()))
            return Bound(binding, tuple(said["classes"]), away, said.get("table", ""))
    except FileNotFoundError:
        return None


def samples(file: Path, bound: Bound, *, files: bool = True) -> Iterator[Sample]:
    """The clips in the table, with or without their files; raises UserError where it is damaged or cannot be read."""
    said = bound.binding
    asked = shlex.join(["--corpus", said.corpus, "--root", str(said.root), "--split", said.split, "--seed", str(said.seed)])
    anew = f"restore it, or delete {file} and divide the clips anew: signcache manifest {file.stem} {asked}"
    with _damage(_table(file), anew), clip_table.opened(_table(file), bound.table) as (columns, rows):
        yield from clip_table.samples_of(columns, rows, files=files)


def is_written(file: Path, bound: Bound) -> bool:
    """Whether the files hold this."""
    before = read(file)
    same = before is not None and bound == replace(before, table=before.table or bound.table)
    return same and clip_table.is_at(_table(file), bound.table)


def write(file: Path, bound: Bound, clips: Sequence[Sample]) -> None:
    """The table beside its place, then, in the one step that counts, what names it."""
    from filelock import FileLock

    said = bound.binding
    content = {"format": FORMAT, "corpus": said.corpus, "root": str(said.root), "split": said.split, "seed": said.seed}
    away = [[sample.id, sample.label, sample.split, sample.signer] for sample in bound.away]
    text = json.dumps({**content, "classes": bound.classes, "table": bound.table, "away": away}, indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.stem}.lock")):
            if before := read(file):
                clip_table.bring(_table(file), before.table)  # of a writer that was killed
            clip_table.put_beside(_table(file), clips)
            atomic.replace(file, text.encode())
            clip_table.bring(_table(file), bound.table)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; make room there, or name another folder: --manifests DIR") from error


def _table(file: Path) -> Path:
    return file.with_suffix(".csv")


@contextmanager
def _damage(path: Path, anew: str) -> Iterator[None]:
    """What a file that is damaged, or cannot be read, makes its readers raise, in one line."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; nothing is lost: mend that and run the same line again") from error
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(f"the manifest of {path.stem!r} is damaged ({path}: {error}); {anew}") from error
