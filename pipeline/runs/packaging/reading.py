"""What labels clips, from a run folder or from a package, a folder or a zip: nothing that lies in a package is run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import registry
from pipeline.cache import weights
from pipeline.cache.identity import differences, fingerprint
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import PREDICTED, Home
from pipeline.errors import UserError
from pipeline.runs import run_folder
from pipeline.runs._recipe_code import code_of
from pipeline.runs.packaging import _archive
from pipeline.runs.packaging._lead import PACKAGE, RUNS, Lead, PackedStage, read
from pipeline.runs.trained import Trained, of_run, recipe_of
from pipeline.types import STAGE_PREFIX, Extractor


@contextmanager
def opened(home: Home, place: Path | str, *, stale: str = "refuse", of_videos: bool = False) -> Iterator[Trained]:
    """What labels clips, of a run or a package, as long as it is needed; `of_videos` where it reads these whatever it was trained on.

    Raises UserError where today's stages make other rows than those that it learned from, unless `stale` is "allow".
    """
    with unfolded(Path(place)) as folder:
        if not (folder / PACKAGE).is_file():
            yield of_run(home, run_folder.read(folder), stale=stale, of_videos=of_videos)
            return
        lead = read(folder)
        run = run_folder.read(folder / RUNS / lead.run)
        stages = _stages(folder, lead, stale, Path(place))
        if not set(lead.reads) <= stages.keys():
            raise UserError(f"the package {place} is damaged (it lacks a stage that it reads); get it anew")
        trained = Trained(run, recipe_of(run), tuple(stages[name] for name in lead.reads), lead.endings)
        _warn_of_other_code(trained)
        yield trained


@contextmanager
def run_at(place: Path | str) -> Iterator[Path]:
    """The folder of a run, also of that in a package, as long as it is needed."""
    with unfolded(Path(place)) as folder:
        yield folder / RUNS / read(folder).run if (folder / PACKAGE).is_file() else folder


@contextmanager
def unfolded(place: Path) -> Iterator[Path]:
    """The folder of a run or a package; a zip is unpacked into one that goes at the end."""
    place = place.expanduser().absolute()
    if not _archive.is_archive(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="signcache-package-") as scratch:
        folder = Path(scratch).resolve()
        _archive.unpack(place, folder)
        if not (folder / PACKAGE).is_file():
            raise UserError(f"{place} is no package: it holds no {PACKAGE}; make one: signcache package RUN OUT")
        yield folder


def _stages(folder: Path, lead: Lead, stale: str, place: Path) -> dict[str, Stage]:
    """Today's stages with the settings and weights of a package, under the name that the cache keeps files by."""
    found = dict[str, Stage]()
    for said in lead.stages:
        fields = {field: value for field, value in said.fields.items() if field != "weights"}
        extractor: Extractor = registry.create("stage", said.kind, {**fields, **_weights_of(folder, lead, said)})
        upstream = found.get(said.upstream or "")
        if extractor.source != (f"{STAGE_PREFIX}{said.upstream}" if upstream else extractor.source.removeprefix(STAGE_PREFIX)):
            raise UserError(f"the package {place} is damaged ({said.name} reads {extractor.source}, which it lacks); get it anew")
        own = fingerprint(extractor, upstream.fingerprint.digest if upstream else None)
        if own.digest != said.digest and stale != "allow":
            before = said.identity.model_dump(exclude_unset=True)
            why = "; ".join(differences(before, own.identity)) or f"{said.digest} -> {own.digest}"
            raise UserError(
                f"the package {place} learned from other rows than stage {said.name!r} makes here ({why}); "
                f"install the signcache that made it ({lead.signcache}), or label all the same: --stale allow"
            )
        found[said.name] = Stage(f"{lead.dataset}{PREDICTED}", said.name, said.kind, {}, extractor, own, upstream)
    return found


def _weights_of(folder: Path, lead: Lead, said: PackedStage) -> dict[str, str]:
    """The field `weights` of a stage that has one: its file in the package, the name under which others publish it, or a seed."""
    identity = said.identity.weights
    if identity is None:
        return {}
    if "random" in identity or identity.get("name") in registry.find("stage", said.kind).checkpoints:
        return {"weights": weights.phrase(identity)}
    if said.weights not in lead.files:
        raise UserError(f"the package {folder} lacks the weights of {said.name}, or names some that nobody publishes here; get it anew")
    return {"weights": str(folder / said.weights)}


def _warn_of_other_code(trained: Trained) -> None:
    """One line on stderr where the files of the model are others than those that trained it."""
    before, now = trained.run.record.get("code", {}), code_of(trained.recipe)
    changed = sorted(file for file in now if file != "pipeline" and now[file] != before.get(file))
    if changed:
        print(f"note: {', '.join(changed)} changed since the package was trained; it may label otherwise than it scored", file=sys.stderr)
