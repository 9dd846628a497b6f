"""A finished run together with what makes its rows of files that a user names: the stages, and how files are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline import registry
from pipeline.cache import publishing
from pipeline.cache.features import Features
from pipeline.cache.identity import differences
from pipeline.cache.likeness import like_of_stage, stand_in, standing_in
from pipeline.cache.stage import Stage, configure, published
from pipeline.corpus import manifest
from pipeline.corpus.manifest import PREDICTED, Home, Manifest
from pipeline.errors import UserError
from pipeline.learning.recipe import Recipe
from pipeline.runs.crossvalidation import refuse_by_fold
from pipeline.runs.run_folder import Run


@dataclass(frozen=True)
class Trained:
    """What labels clips. `endings` are those of the corpus: see `Dataset`."""

    run: Run
    recipe: Recipe
    stages: tuple[Stage, ...]
    """Today's, in the order of the recipe, for clips of the name `name`."""
    endings: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        """Under which the cache keeps the features of files."""
        return f"{self.run.dataset}{PREDICTED}"

    @property
    def chain(self) -> list[Stage]:
        """The stages and those that they derive from, each once and after what it reads."""
        return list({link.name: link for stage in self.stages for link in stage.chain}.values())

    @property
    def modalities(self) -> list[str]:
        """The media that are read of every clip."""
        return list(dict.fromkeys(link.extractor.source for link in self.chain if link.upstream is None))


def recipe_of(run: Run) -> Recipe:
    """The recipe of a finished run; raises UserError where its training has not ended."""
    if not run.scores:
        raise UserError(f"the run {run.folder} has no scores; train it again with --again")
    recipe: Recipe = registry.create("model", run.model, run.record["settings"])
    return recipe


def of_run(home: Home, run: Run, *, stale: str = "refuse", of_videos: bool = False) -> Trained:
    """A finished run with today's stages of its corpus, or, `of_videos`, with those that make rows like theirs of these.

    Raises UserError where these were imported and nothing says what they are like, or, unless `stale` is "allow", where they
    make other features than those that it was trained on.
    """
    recipe, table = recipe_of(run), manifest.read(home, run.dataset, clips=False)
    refuse_by_fold(run)
    stages = [
        _standing_in(home, run, table, stage, stale, of_videos) or _unchanged(home, run, table, stage, stale) for stage in recipe.stages
    ]
    name = f"{run.dataset}{PREDICTED}"
    return Trained(run, recipe, tuple(_moved(stage, name) for stage in stages), getattr(table.dataset, "endings", {}))


def _standing_in(home: Home, run: Run, table: Manifest, name: str, stale: str, of_videos: bool) -> Stage | None:
    """What makes of files rows like those of a stage that no file gives."""
    said, remedy = run.record["stages"][name], f"do it again: {run.record['command']}, or label all the same: --stale allow"
    if "imported" in run.record:
        return replace(stand_in(run.dataset, said["like"], stale, remedy), name=name)
    like = like_of_stage(home, table, said.get("name", name), said, of_videos=of_videos)
    return standing_in(configure(home, table, name), stand_in(run.dataset, like, stale, remedy)) if like else None


def _unchanged(home: Home, run: Run, table: Manifest, name: str, stale: str) -> Stage:
    """Today's stage, which must make the features that the run was trained on, or others that were adopted from these."""
    trained = run.record["stages"][name]
    stage = configure(home, table, trained.get("name", name))
    if any(link.is_imported for link in stage.chain):
        raise UserError(
            f"the run reads {run.dataset}/{name}, which was imported: signcache cannot make it from files; "
            f"say which stage makes the same rows: signcache import {run.dataset} {stage.chain[0].name} SRC --format FORMAT --like STAGE"
        )
    is_trained_on = stage.fingerprint.digest == trained["digest"] or _is_adopted(home, run, stage, trained["digest"])
    if not is_trained_on and stale != "allow":
        said = trained["identity"]
        why = "; ".join(differences(said, stage.fingerprint.identity)) if said else f"{trained['digest']} -> {stage.fingerprint.digest}"
        raise UserError(
            f"the run was trained on other features than {run.dataset}/{name} makes today ({why}); train it anew: {run.record['command']}"
        )
    return replace(stage, name=name)


def _is_adopted(home: Home, run: Run, stage: Stage, digest: str) -> bool:
    """Whether today's features of the run's corpus were once those of this identity."""
    features = of_today(home, run.dataset, stage)
    return features is not None and digest in features.adopted_from()


def of_today(home: Home, dataset: str, stage: Stage) -> Features | None:
    """What is published of a stage, where it is what the stage makes today."""
    if published(home, dataset, stage.name) is None:
        return None
    features = publishing.opened(home, dataset, stage.name)
    return features if features.digest == stage.fingerprint.digest else None


def _moved(stage: Stage, name: str) -> Stage:
    """The same stage under another name of clips."""
    return replace(stage, dataset=name, upstream=_moved(stage.upstream, name) if stage.upstream else None)
