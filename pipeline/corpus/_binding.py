"""The two files of a bound name: `NAME.json`, which leads, and the table of clips that it names by its digest, `NAME.csv`."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import atomic, registry
from pipeline.corpus import clip_table
from pipeline.errors import NewerFormat, UserError, did_you_mean
from pipeline.types import Sample

FORMAT = 1
CHECKOUT = Path(__file__).resolve().parents[2]
PREDICTED = "-predict"
"""Ends the name under which the cache keeps features of the files that `predict` was given."""
RESERVED = re.compile(rf"runs|.*({PREDICTED}|\.csv|\.json)", re.IGNORECASE)
"""What the cache and the folder of tables call their own: folders of runs, features of what `predict` was given, tables."""


@dataclass(frozen=True)
class Binding:
    """What a name stands for: corpus, root, how it is split, the seed of that, and the modalities that its clips may lack."""

    corpus: str
    root: Path
    split: str
    seed: int
    may_lack: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bound:
    """What `NAME.json` holds: also the clips that are away, and of the others the digest of the table and the modalities.

    Older ones lack these.
    """

    binding: Binding
    classes: tuple[str, ...]
    away: tuple[Sample, ...]
    table: str
    modalities: tuple[str, ...] = ()


def first(name: str, asked: Mapping[str, Any]) -> Binding:
    """What a name that is new is to stand for; raises UserError where it cannot be a name, or there is no such corpus."""
    if RESERVED.fullmatch(name):
        raise UserError(f"{name!r} cannot name a data set: runs, *-predict, *.csv and *.json are the cache's own; use another name")
    corpus = asked.get("corpus") or name
    known = registry.names("dataset")
    if corpus not in known:
        hint = "" if asked.get("corpus") else f"bind it first: signcache manifest {name} --corpus folder --root DIR"
        raise UserError(f"no corpus called {corpus!r}{did_you_mean(corpus, known)} Known: {', '.join(known)}. {hint}".rstrip())
    root = Path(asked.get("root") or CHECKOUT / "data" / name).expanduser().absolute()
    return Binding(corpus, root, asked.get("split") or "", asked.get("seed") or 0, _may_lack(asked) or ())


def rebound(name: str, old: Binding, asked: Mapping[str, Any]) -> Binding:
    """Another root rebinds; another corpus, split or seed would change what was trained, so it is refused."""
    for key in ("corpus", "split", "seed"):
        if asked.get(key) is not None and asked[key] != getattr(old, key):
            options = {"corpus": old.corpus, "root": asked.get("root") or old.root, key: asked[key]}
            example = " ".join(f"--{option} {value}" for option, value in options.items())
            raise UserError(
                f"{name!r} is bound with {key} {getattr(old, key)!r}, not {asked[key]!r}; use another name, as in: "
                f"signcache manifest {name}2 {example}"
            )
    told = _may_lack(asked)
    root = Path(asked["root"]).expanduser().absolute() if asked.get("root") else old.root
    return replace(old, root=root, may_lack=old.may_lack if told is None else told)


def _may_lack(asked: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The modalities that are asked for; an empty one alone forgets those of before."""
    told = asked.get("may_lack")
    return tuple(sorted({modality for modality in told if modality})) if told else None


def read(file: Path) -> Bound | None:
    """What a name is bound to; None where it is not. Raises UserError where `NAME.json` is damaged or cannot be read."""
    anew = f"restore it, or delete it and bind the name anew: signcache manifest {file.stem} --corpus CORPUS --root DIR"
    try:
        with _damage(file, anew):
            said = json.loads(file.read_bytes())
            if said["format"] > FORMAT:
                raise NewerFormat(file, said["format"], FORMAT)
            binding = Binding(said["corpus"], Path(said["root"]), said["split"], said["seed"], tuple(said.get("may_lack", ())))
            away = tuple(Sample(clip, {}, label, split, signer) for clip, label, split, signer in said.get("away", ()))
            return Bound(binding, tuple(said["classes"]), away, said.get("table", ""), tuple(said.get("modalities", ())))
    except FileNotFoundError:
        return None


def samples(file: Path, bound: Bound, *, files: bool = True) -> Iterator[Sample]:
    """The clips in the table, with or without their files; raises UserError where it is damaged or cannot be read."""
    said = bound.binding
    words = ["--corpus", said.corpus, "--root", str(said.root), "--split", said.split, "--seed", str(said.seed)]
    asked = shlex.join([*words, *(word for modality in said.may_lack for word in ("--may-lack", modality))])
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
    content: dict[str, object] = {"format": FORMAT, "corpus": said.corpus, "root": str(said.root), "split": said.split, "seed": said.seed}
    if said.may_lack:
        content["may_lack"] = list(said.may_lack)
    away = [[sample.id, sample.label, sample.split, sample.signer] for sample in bound.away]
    clips_of = {"classes": bound.classes, "modalities": bound.modalities, "table": bound.table, "away": away}
    text = json.dumps({**content, **clips_of}, indent=1)
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
