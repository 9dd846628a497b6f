"""Weights trained fold by fold make a stage of each fold: `resnet50.fold1`, `resnet50.fold2`, and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.cache.stage import Stage, published
from pipeline.cache.trained import fold_name, weights_by_fold
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.extraction.plan import wanted_stages


def chosen(home: Home, table: Manifest, names: Sequence[str], settings: Mapping[str, str], second_name: str = "") -> list[Stage]:
    """As `wanted_stages`; where `weights=run:RUN` names a run of folds, the stage once with the weights of each.

    These have the settings of the stage that is named. Raises UserError where that is not one.
    """
    keys = [key for key in settings if key.rpartition(".")[2] == "weights"]
    folds = weights_by_fold(home, settings[keys[0]]) if keys else []
    if not folds:
        return wanted_stages(home, table, names, settings, second_name)
    if len(names) != 1:
        raise UserError(f"--set {keys[0]}={settings[keys[0]]} are weights of {len(folds)} folds; name the one stage that they are of")
    before = published(home, table.name, names[0])
    own = {key: value for key, value in (before.settings if before else {}).items() if key != "weights"}
    now = {key.rpartition(".")[2]: value for key, value in settings.items() if key not in keys}
    found: dict[str, Stage] = {}
    for number, weights in enumerate(folds, start=1):
        name = fold_name(second_name or names[0], number)
        found |= {stage.name: stage for stage in wanted_stages(home, table, names, {**own, **now, "weights": weights}, name)}
    return list(found.values())
