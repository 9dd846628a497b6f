"""What a stage is for a data set: its settings, its identity, and what is published under its name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline import registry
from pipeline.atomic import unseal
from pipeline.cache.identity import Fingerprint, differences, fingerprint
from pipeline.cache.trained import RUN, trained_weights
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.presets import TUNED, second_names, stages_of, stages_without, suited
from pipeline.errors import NewerFormat, UserError
from pipeline.layouts import Layout
from pipeline.types import IMPORT_PREFIX, STAGE_PREFIX, Extractor

FORMAT = 1
Found = TypeVar("Found")


@dataclass(frozen=True)
class Stage:
    """A stage as configured for a data set: `name` in tables, `kind` the file in `stages/`, `settings` what `--set` gave."""

    dataset: str
    name: str
    kind: str
    settings: Mapping[str, Any]
    extractor: Extractor
    fingerprint: Fingerprint
    upstream: Stage | None

    @property
    def is_imported(self) -> bool:
        """Whether its rows came from another program, so that there is nothing to extract."""
        return self.extractor.source.startswith(IMPORT_PREFIX)

    @property
    def modality(self) -> str:
        """The media that it goes back to."""
        return self.chain[0].extractor.source

    @property
    def chain(self) -> tuple[Stage, ...]:
        """What the stage derives from, that of media or an import first, and then itself."""
        return (*self.upstream.chain, self) if self.upstream else (self,)

    @property
    def file(self) -> str:
        """Where its code is."""
        return f"stages/{self.kind}.py"

    def folder(self, home: Home) -> Path:
        """Where the shards of this identity lie."""
        return home.cache / self.dataset / self.name / self.fingerprint.digest


@dataclass(frozen=True)
class Published:
    """What `published.json` says: the features that training reads."""

    stage: str
    digest: str
    identity: Mapping[str, Any]
    settings: Mapping[str, Any]
    row_shape: tuple[int, ...]
    dtype: str
    index: str
    like: Mapping[str, Any] | None = None
    """Of imported rows, the stage that makes the same ones from files, as `likeness.said_of` says it."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return math.prod(self.row_shape) * np.dtype(self.dtype).itemsize


def published(home: Home, dataset: str, name: str) -> Published | None:
    """The published features of a stage, or None; raises UserError where the file is damaged or newer."""
    path = home.cache / dataset / name / "published.json"
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
        if content["format"] > FORMAT:
            raise NewerFormat(path, content["format"], FORMAT)
        content = unseal(raw)
        row_shape = tuple(content["row_shape"])
        return Published(
            **{key: content[key] for key in ("stage", "digest", "identity", "settings", "dtype", "index")},
            row_shape=row_shape,
            like=content.get("like"),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); run: signcache verify {dataset} {name} --mend, then: signcache extract {dataset} {name}"
        ) from error


def as_published(said: Published) -> Extractor:
    """The stage with the fields that published rows were made with, as far as today's code has them; raises UserError where it has not."""
    known = registry.find("stage", said.stage).model_fields
    extractor: Extractor = registry.create("stage", said.stage, {k: v for k, v in said.identity["fields"].items() if k in known})
    return extractor


def layout_of(said: Published) -> Layout | None:
    """What the values of published rows are: what their stage says, of imported ones what the only known layout of their width says."""
    try:
        if said.identity["fields"]["source"].startswith(IMPORT_PREFIX):
            known = {registry.create("stage", name).row_layout for name in registry.names("stage")} - {None}
        else:
            known = {as_published(said).row_layout} - {None}
    except UserError:  # the stage has gone, or takes other fields now
        return None
    fitting = [layout for layout in known if (layout.width,) == said.row_shape]
    return fitting[0] if len(fitting) == 1 else None


def of_published(home: Home, dataset: str, name: str, look: Callable[[Published | None], Found]) -> Found:
    """What `look` finds, without a lock, of what is published: all of it of one publication, for the next takes files away."""
    said = published(home, dataset, name)
    while True:
        try:
            found = look(said)
        except (FileNotFoundError, UserError):
            now = published(home, dataset, name)
            if now == said:
                raise
        else:
            now = published(home, dataset, name)
            if now == said:
                return found
        said = now


def published_names(home: Home, dataset: str) -> list[str]:
    """Every name that has published features."""
    return sorted(path.parent.name for path in (home.cache / dataset).glob("*/published.json"))


def kind_of(home: Home, table: Manifest, name: str) -> str:
    """The file in `stages/` that a stage's name stands for: what is published under it, else what the corpus says or the name itself."""
    before = published(home, table.name, name)
    return before.stage if before else second_names(table.dataset).get(name, name)


def default_stages(table: Manifest, preset: str = TUNED) -> tuple[list[str], dict[str, str]]:
    """The stages of a corpus' preset that can be extracted, and `{stage: modality}` of those whose modality no clip of it has."""
    has, replaced = table.modalities, stages_without(table.dataset)
    needed = {name: _modality(table, name) for name in stages_of(table.dataset, preset, has)}
    absent = {name: modality for name, modality in needed.items() if modality not in has and modality not in replaced}
    return [name for name in needed if needed[name] in has], absent


def source_of(table: Manifest, name: str) -> str:
    """What a stage reads, by the corpus' settings."""
    kind = second_names(table.dataset).get(name, name)
    said = suited(table.dataset, name, kind, table.modalities).get("source")
    return str(said or registry.find("stage", kind).model_fields["source"].default)


def _modality(table: Manifest, name: str, way: tuple[str, ...] = ()) -> str:
    """The media that a stage goes back to, by the corpus' settings; `way` are the stages that led to it."""
    source, way = source_of(table, name), _longer(way, name)
    return _modality(table, source.removeprefix(STAGE_PREFIX), way) if source.startswith(STAGE_PREFIX) else source


def _longer(way: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The way from a stage to what it derives from, a stage further; raises UserError where it comes back."""
    if name in way:
        circle = " <- ".join(map(repr, (*way, name)))
        raise UserError(f"stage {name!r} would derive from itself ({circle}); give one of them another source, as in --set source=rgb")
    return (*way, name)


def _refuse_circle(home: Home, table: Manifest, name: str, source: str, known: Mapping[str, Stage]) -> None:
    way: tuple[str, ...] = (name,)
    while source.startswith(STAGE_PREFIX):
        above = source.removeprefix(STAGE_PREFIX)
        way, before, kind = _longer(way, above), published(home, table.name, above), kind_of(home, table, above)
        given = {**suited(table.dataset, above, kind, table.modalities), **(before.settings if before else {})}
        default = registry.find("stage", kind).model_fields["source"].default
        source = known[above].extractor.source if above in known else str(given.get("source") or default)


def configure(
    home: Home,
    table: Manifest,
    name: str,
    *,
    now: Mapping[str, Any] | None = None,
    kind: str = "",
    known: Mapping[str, Stage] | None = None,
) -> Stage:
    """The stage with its settings: class default < the corpus' < those published by `--set` < `now`, where an empty value forgets one.

    `kind` is the file in `stages/` where `name` is a second name for it; `known` stages are taken as upstream as they are.
    `weights=run:RUN` are those that a run has trained. Raises UserError for what does not exist.
    """
    before = published(home, table.name, name)
    kind = kind or kind_of(home, table, name)
    if before and before.stage != kind:
        raise UserError(f"{table.name}/{name} holds features of {before.stage!r}; choose another name for {kind!r}")
    given = {**(before.settings if before else {}), **(now or {})}
    given = {key: value for key, value in given.items() if value != ""}
    of_run = str(given.get("weights", ""))
    run = trained_weights(home, kind, of_run) if of_run.startswith(RUN) else None
    here = {"weights": str(run.file)} if run else {}
    extractor: Extractor = registry.create("stage", kind, {**suited(table.dataset, name, kind, table.modalities), **given, **here})
    _refuse_without_rows(name, kind, extractor)
    settings = {key: value for key, value in extractor.model_dump(mode="json").items() if key in given}
    settings |= {"weights": run.said} if run else {}
    upstream = None
    if extractor.source.startswith(STAGE_PREFIX):
        source = extractor.source.removeprefix(STAGE_PREFIX)
        _refuse_circle(home, table, name, extractor.source, known or {})
        upstream = (known or {}).get(source) or configure(home, table, source)
    identity = fingerprint(extractor, upstream.fingerprint.digest if upstream else None)
    return Stage(table.name, manifest.checked_name(name), kind, settings, extractor, identity, upstream)


def _refuse_without_rows(name: str, kind: str, extractor: Extractor) -> None:
    """Raise UserError where a stage cannot say what its rows are."""
    try:
        np.empty((0, *extractor.row_shape), extractor.dtype)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a stage that somebody is writing may raise anything
        said = str(error).partition("\n")[0]
        raise UserError(
            f"stage {name!r} cannot say its row_shape and dtype: {type(error).__name__}: {said}; look at stages/{kind}.py"
        ) from error


def staleness(stage: Stage, before: Published) -> str:
    """`max_frames 30 -> 60; code of stages/resnet50.py`, or an empty string where the published features are today's."""
    if before.digest == stage.fingerprint.digest:
        return ""
    return "; ".join(differences(before.identity, stage.fingerprint.identity)) or "identity"
