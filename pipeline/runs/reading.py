"""What a training reads: opened stages, clips that lack features, folds, and what is doubtful about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import registry
from pipeline.atomic import digest_of
from pipeline.cache.provenance import Origin
from pipeline.cache.publishing import Features
from pipeline.corpus.folds import kept_together
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.splits import crossing_duplicates, crossing_signers, overlap_line, with_cut
from pipeline.data.lacking import modalities, refuse_missing, sparing, without_features
from pipeline.data.leakage import Leak, leaks
from pipeline.data.opening import open_stages
from pipeline.data.table import UNKNOWN, Table
from pipeline.errors import UserError
from pipeline.learning.recipe import Recipe, Training
from pipeline.runs import journal
from pipeline.types import SPLITS, Sample, Split


@dataclass(frozen=True)
class Reading:
    """The labelled clips that a training or a scoring reads, with their opened stages."""

    table: Manifest
    opened: Mapping[str, Features]
    samples: tuple[Sample, ...]
    aids: Mapping[str, Features] = field(default_factory=dict)
    """Stages that training reads too where a clip has them."""
    part: str = ""
    """What scores in place of a split of the manifest: `fold 2 of 3`."""
    begins: tuple[Origin, ...] = ()
    """Weights that the training begins with."""

    def of(self, split: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.split == split]

    @property
    def scored(self) -> str:
        """The fold that scores: test, or validation where no test clip has a label."""
        return "test" if self.of("test") else "val"

    def training(self, recipe: Recipe) -> list[Sample]:
        """The clips that a recipe learns from."""
        return [*self.of("train"), *(self.of("val") if recipe.learns_validation else ())]

    def learned(self, recipe: Recipe) -> list[str]:
        """Labels that the training of a recipe sees."""
        return sorted({str(sample.label) for sample in self.training(recipe)})

    def fold(self, split: str, seed: int, folder: Path | None = None) -> Training:
        """The clips of a split for the training of a recipe."""
        table = self.rows(self.of(split), self.table.classes)
        stages = {**table.stages, **{name: features.sparing(table.ids) for name, features in self.aids.items()}}
        _, groups = kept_together(self.of(split), self.table)
        own = (table.ids, table.labels, table.classes, stages)
        return Training(*own, seed=seed, folder=folder, groups=groups, journal=journal.opened)

    def story(self) -> dict[str, Any]:
        """What weights learn from that are trained and selected on this: `pipeline.cache.trained.story_of` says it as it is kept."""
        learns = [*self.of("train"), *self.of("val")]
        _, groups = kept_together(self.samples, self.table)
        group = {sample.id: name for sample, name in zip(self.samples, groups, strict=True)}
        clips = [{"id": s.id, "content": self.contents(s)[0], "split": s.split, "signer": s.signer, "group": group[s.id]} for s in learns]
        return {"dataset": self.table.name, "corpus": self.table.binding.corpus, "part": self.part, "clips": clips}

    def narrowed(self, recipe: Recipe) -> Reading:
        """The stages of a recipe that is a part of the one that opened them, and the clips that have these."""
        every = {**self.aids, **self.opened}
        opened, aids = ({stage: every[stage] for stage in stages} for stages in (recipe.stages, recipe.aids))
        opened = opened if recipe.does_without else {stage: features.sparing(()) for stage, features in opened.items()}
        samples = tuple(s for s in self.samples if all(s.id in f or f.lacks(s.id) for f in opened.values()))
        return replace(self, opened=opened, samples=samples, aids=aids)

    def holding(self, held: Collection[str]) -> Reading:
        """These train clips score, the others train, validation stays, and the clips of test are not read."""
        splits: dict[str, Split] = {s.id: "test" if s.id in held else s.split for s in self.samples if s.split != "test"}
        return replace(self, samples=tuple(replace(s, split=splits[s.id]) for s in self.samples if s.id in splits), part="held back")

    def folded(self, held: Collection[str], seed: int, part: str) -> Reading:
        """These clips of train and validation score, the others train but for a seeded cut that is validation; test is not read."""
        own = [sample for sample in self.samples if sample.split != "test"]
        train = [replace(sample, split="train") for sample in own if sample.id not in held]
        splits: dict[str, Split] = {sample.id: sample.split for sample in with_cut(train, self.table.groups, seed)}
        return replace(self, samples=tuple(replace(s, split=splits.get(s.id, "test")) for s in own), part=part)

    def rows(self, samples: Sequence[Sample], classes: tuple[str, ...]) -> Table:
        """Clips to be scored; a label that is none of `classes` is unknown."""
        index = {label: number for number, label in enumerate(classes)}
        labels = np.array([index.get(str(sample.label), UNKNOWN) for sample in samples], np.int64)
        return Table(tuple(sample.id for sample in samples), labels, classes, self.opened)

    def check(self) -> None:
        """Raise UserError where a fold is empty, or nothing can be told apart."""
        name = self.table.name
        for split, use in (("train", "train on"), ("val", "stop and select on")):
            if not self.of(split):
                raise UserError(
                    f"{name} has no labelled {split} clips to {use}; labelled: {labelled_splits(self.table)}; see: manifests/{name}.csv"
                )
        if len(self.table.classes) < 2:
            raise UserError(f"{name} has one class, {self.table.classes[0]!r}; a recogniser needs two or more")

    def contents(self, sample: Sample, *, aids: bool = False) -> list[str]:
        """What each stage's rows of a clip were made from, those of the stages that aid training too; empty where it has none."""
        indices = [features.index for features in (*self.opened.values(), *(self.aids.values() if aids else ()))]
        return [i.columns["content"][i.position[sample.id]].decode() if sample.id in i.position else "" for i in indices]

    def lacking(self) -> dict[str, dict[str, int]]:
        """`{stage: {split: clips}}` that are read without rows of a stage; nothing of stages that all clips have."""
        found = {stage: [s.split for s in self.samples if features.lacks(s.id)] for stage, features in self.opened.items()}
        return {stage: dict(Counter(splits)) for stage, splits in found.items() if splits}

    def digest(self) -> str:
        """Changes with any clip that is read: its rows, label, split, signer, or what folds keep together with it."""
        _, groups = kept_together(self.samples, self.table)
        rows = [self.contents(sample, aids=True) for sample in self.samples]
        return digest_of([[s.id, s.label, s.split, s.signer, group, own] for s, group, own in zip(self.samples, groups, rows, strict=True)])

    def warnings(self, recipe: Recipe) -> list[str]:
        """A line each: clips with the same bytes, signers and groups in more than one split; what the scored fold was used for."""
        lines, known = [*self.crossings(), *self.parted(recipe)], set(self.learned(recipe))
        strange = [sample for sample in self.of(self.scored) if sample.label not in known]
        if strange:
            labels = sorted({str(sample.label) for sample in strange})
            lines.append(f"{count(len(strange), f'{self.scored} clip')} of labels that train lacks, counted as wrong: {some(labels)}")
        lines += [*self.lacking_lines(), *self.leak_lines(self.scored)]
        if self.scored == "val":
            use = "trained the model" if recipe.learns_validation else "selected the weights"
            lines.append(f"no test clip has a label: validation is scored, which also {use}, so the scores flatter")
        return lines

    def leaks(self, split: str) -> list[Leak]:
        """What weights behind the stages, and those that the training begins with, have seen of the clips of a split."""
        return leaks(self.table, {**self.opened, **self.aids}, self.of(split), self.begins)

    def leak_lines(self, split: str) -> list[str]:
        """A line for each of these."""
        return [leak.line("scored" if self.part else split, len(self.of(split))) for leak in self.leaks(split)]

    def lacking_lines(self) -> list[str]:
        """A line a stage that clips are read without."""
        every = {stage: ", ".join(f"{split} {n}" for split, n in counts.items()) for stage, counts in self.lacking().items()}
        return [f"clips without {stage}, as their corpus says they may be, and read without it: {said}" for stage, said in every.items()]

    def crossings(self, kind: str = "split") -> Iterable[str]:
        """A line for clips of the same bytes, for moments and for signers in more than one split, or in more than one of another `kind`."""
        groups = crossing_duplicates(self.samples, {sample.id: tuple(self.contents(sample)) for sample in self.samples})
        if groups:
            first = " = ".join(f"{sample.split} {sample.id}" for sample in groups[0])
            clips = sum(map(len, groups))
            yield f"{clips} clips have the same bytes as one of another {kind}, so scores flatter (first: {first})"
        yield from overlap_line(self.samples, kind)
        crossing = crossing_signers(self.samples)
        if self.part:  # its validation was cut from train, clip by clip where signers are few
            crossing = {signer: splits for signer, splits in crossing.items() if self.scored in splits}
        if crossing:
            signer, splits = next(iter(crossing.items()))
            remedy = "; split by signer: signcache manifest NAME --split signer" if kind == "split" else ""
            yield (
                f"{count(len(crossing), 'signer')} in more than one {kind}, so scores say little of new signers "
                f"(first: {signer}: {', '.join(splits)}){remedy}"
            )

    def parted(self, recipe: Recipe) -> Iterable[str]:
        """A line for clips that share a group with those that train; signers in two splits of the manifest are among the crossings."""
        by, names = kept_together(self.samples, self.table)
        group = {sample.id: name for sample, name in zip(self.samples, names, strict=True)}
        trains = {group[sample.id] for sample in self.training(recipe)}
        judging = ("test",) if recipe.learns_validation else ("val", "test")
        shared = {split: [sample.id for sample in self.of(split) if group[sample.id] in trains] for split in judging}
        first = next((clip for own in shared.values() for clip in own), None)
        if first and by != "clip" and (self.part or by != "signer"):
            counts = " and ".join(f"{len(own)} of {count(len(self.of(split)), f'{split} clip')}" for split, own in shared.items() if own)
            remedy = f"; split by {by}: signcache manifest NAME --split {by}" if not self.part and self.table.binding.split != by else ""
            yield f"{counts} share a {by} with clips that train, so they say little of new {by}s (first: {first}: {group[first]}){remedy}"


def read_for(
    home: Home, table: Manifest, recipe: Recipe, clips: Sequence[Sample], *, stale: str, allow_missing: int, fold: int = 0
) -> tuple[Reading, dict[str, str]]:
    """What a training of a recipe on these clips reads, and `{clip: reason}` of those left out for want of features.

    With a `fold`, from 1, the rows of that fold of stages whose weights were trained fold by fold. Raises UserError where more are
    left out than is allowed, a stage is not published, or its rows are none for the recipe.
    """
    opened, aids = (open_stages(home, table, stages, stale, fold) for stages in (recipe.stages, recipe.aids))
    recipe.check({stage: features.layout for stage, features in {**opened, **aids}.items()})
    if recipe.does_without and table.may_lack:
        opened = sparing(table, opened, modalities(home, table, opened))
    missing = without_features(home, table, by_name(opened), clips, stale, aids=by_name(aids))
    _refuse_lacking(table, recipe, missing, allow_missing)
    refuse_missing(table, missing, len(clips), allow_missing)
    return Reading(table, opened, tuple(sample for sample in clips if sample.id not in missing), aids), missing


def by_name(opened: Mapping[str, Features]) -> dict[str, Features]:
    """The same by their names in the cache, which those of a fold do not go by in a recipe."""
    return {features.name: features for features in opened.values()}


def _refuse_lacking(table: Manifest, recipe: Recipe, missing: Mapping[str, str], allowed: int) -> None:
    """Raise UserError where clips that are left out lack what their corpus says they may, which this recipe reads of every clip."""
    for modality in sorted(table.may_lack) if len(missing) > allowed and not recipe.does_without else ():
        lacking = table.lacking(modality) & missing.keys()
        if lacking:
            others = ", ".join(name for name in registry.names("model") if registry.find("model", name).does_without)
            raise UserError(
                f"{len(lacking)} of {len(table.samples)} clips of {table.name} have no {modality} (first: {min(lacking)}), which this "
                f"model reads of every clip; train one that does without ({others}), or leave them out: --allow-missing {len(missing)}"
            )


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def some(words: Sequence[str], most: int = 5) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def labelled_splits(table: Manifest) -> str:
    counts = {split: sum(s.split == split and s.label is not None for s in table.samples) for split in SPLITS}
    return ", ".join(f"{split} {count}" for split, count in counts.items() if count) or "none"
