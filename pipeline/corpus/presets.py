"""Which settings a corpus has for its stages and models: those tuned to it, or those that its source published."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline.corpus.manifest import Manifest
from pipeline.errors import UserError, did_you_mean
from pipeline.types import Dataset

WORD = "settings"
"""`--set settings=published` chooses among PRESETS."""
TUNED, PUBLISHED = PRESETS = ("tuned", "published")
Settings = Mapping[str, Mapping[str, Any]]


def preset_of(settings: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The preset that `settings` name, tuned by default, and the other settings; raises UserError where there is none of that name."""
    said = settings.get(WORD) or TUNED
    if said not in PRESETS:
        raise UserError(f"no settings called {said!r}{did_you_mean(said, list(PRESETS))} Known: {', '.join(PRESETS)}")
    return said, {key: value for key, value in settings.items() if key != WORD}


def second_names(dataset: Dataset) -> Mapping[str, str]:
    """`{name: stage}` of the names among a corpus' stages that are no files themselves."""
    found: Mapping[str, str] = getattr(dataset, "second_names", {})
    return found


def stages_of(dataset: Dataset, preset: str, has: Collection[str] = ()) -> Settings:
    """`{name: settings}` of the stages that a preset reads, of a root whose clips have these modalities; not known: as declared."""
    own, other = dataset.stages, getattr(dataset, "published_stages", {})
    own, other = (own, other) if preset == TUNED else (other, own)
    for modality, instead in stages_without(dataset).items():
        if has and modality not in has and own:
            own = {**own, **{name: settings for name, settings in instead.items() if name in own or name not in other}}
    return own


def stages_without(dataset: Dataset) -> Mapping[str, Settings]:
    """`{modality: {name: settings}}`: what stands in place of stages, or joins them, where no clip has a modality."""
    found: Mapping[str, Settings] = getattr(dataset, "stages_without", {})
    return found


def models_of(dataset: Dataset, preset: str) -> Settings:
    """`{model: settings}` of a preset."""
    found: Settings = dataset.training if preset == TUNED else getattr(dataset, "published", {})
    return found


def suited(dataset: Dataset, name: str, kind: str, has: Collection[str] = ()) -> Mapping[str, Any]:
    """The settings that a corpus has for a stage, a file `kind` in `stages/` under this name; `has` as in `stages_of`."""
    known = {**stages_of(dataset, PUBLISHED, has), **stages_of(dataset, TUNED, has)}
    return known.get(name if second_names(dataset).get(name) == kind else kind, {})


def training_settings(table: Manifest, model: str, preset: str) -> Settings:
    """`models_of`, tuned ones with what stands in for media that no clip has; raises UserError where a model has no published settings."""
    found = models_of(table.dataset, preset)
    if preset == PUBLISHED and model not in found:
        raise _lacking(table, f"of {model!r}", found)
    standing_in = [settings for settings in _absent(table).values() if preset == TUNED]
    return {model: settings for part in (found, *standing_in) for model, settings in part.items()}


def stand_in_line(table: Manifest, model: str, stages: Sequence[str]) -> list[str]:
    """A line where a model reads these stages because no clip has the media that it would read."""
    said = {modality: settings[model] for modality, settings in _absent(table).items() if model in settings}
    own = [modality for modality, settings in said.items() if tuple(settings["stages"]) == tuple(stages)]
    return [f"no clip of {table.name} has {modality} media: {', '.join(stages)} stands for it in {model}" for modality in own]


def _absent(table: Manifest) -> Mapping[str, Settings]:
    """`{modality: {model: settings}}` of what the corpus declares for media that no clip of it has."""
    declared: Mapping[str, Settings] = getattr(table.dataset, "without", {})
    return {modality: settings for modality, settings in declared.items() if modality not in table.modalities}


def refuse_unpublished(table: Manifest, names: Sequence[str], preset: str) -> None:
    """Raise UserError where a stage is named of which the corpus has no published settings, or where it has none at all."""
    own = stages_of(table.dataset, preset, table.modalities)
    for name in names or ([] if own else [""]):
        if preset == PUBLISHED and name not in own:
            raise _lacking(table, f"of stage {name!r}" if name else "of stages", own)


def _lacking(table: Manifest, what: str, known: Collection[str]) -> UserError:
    has = f"it has those of {', '.join(known)}" if known else "no system that published any is known for it"
    name = table.name if table.name == table.binding.corpus else f"{table.name} (corpus {table.binding.corpus})"
    return UserError(f"{name} has no published settings {what}; {has}; without settings={PUBLISHED}, it has its own")
