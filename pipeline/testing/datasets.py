"""What every corpus keeps to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from pipeline import registry
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.corpus.presets import PRESETS, PUBLISHED, models_of, second_names, stages_of, stages_without
from pipeline.errors import UserError
from pipeline.testing._contract import Contract
from pipeline.types import Dataset


def corpus(name: str) -> Dataset:
    """The corpus of this name."""
    found: Dataset = registry.create("dataset", name)
    return found


class DatasetContract(Contract):
    """A corpus says its layout in a line, suits stages and models that exist, and orders its classes in one way."""

    make_themselves: ClassVar[frozenset[str]] = frozenset()
    """Those that make what is missing, so that no root is wrong."""
    numbered: ClassVar[frozenset[str]] = frozenset()
    """Those whose labels are nothing but numbers."""

    def concerns(self, name: str, fixtures: Sequence[str]) -> bool:
        return "state" not in fixtures or name not in self.make_themselves

    def test_the_layout_is_said_in_one_line(self, name: str) -> None:
        layout = corpus(name).layout
        assert layout
        assert "\n" not in layout

    def test_default_stages_exist_with_these_settings(self, name: str) -> None:
        every = [(stage, settings) for preset in PRESETS for stage, settings in stages_of(corpus(name), preset).items()]
        every += [pair for instead in stages_without(corpus(name)).values() for pair in instead.items()]
        for stage, settings in every:
            registry.create("stage", second_names(corpus(name)).get(stage, stage), settings)
        assert set(second_names(corpus(name))) <= {stage for stage, _ in every}

    def test_models_of_the_training_settings_exist(self, name: str) -> None:
        for preset in PRESETS:
            for model, settings in models_of(corpus(name), preset).items():
                registry.create("model", model, settings)
        for standing_in in getattr(corpus(name), "without", {}).values():
            for model, settings in standing_in.items():
                assert settings["stages"], "what stands in is said"
                registry.create("model", model, settings)

    def test_a_stage_of_two_presets_has_the_same_settings_in_both(self, name: str) -> None:
        tuned, published = (stages_of(corpus(name), preset) for preset in PRESETS)
        assert all(tuned[stage] == published[stage] for stage in tuned.keys() & published.keys())

    def test_published_settings_read_stages_that_the_corpus_has_for_them(self, name: str) -> None:
        known, models = stages_of(corpus(name), PUBLISHED), models_of(corpus(name), PUBLISHED)
        for model, settings in models.items():
            recipe = registry.create("model", model, settings).adapted(models)
            assert {*recipe.stages, *recipe.aids} <= known.keys()

    def test_classes_are_in_one_order_whatever_the_order_of_the_labels(self, name: str) -> None:
        labels = [f"{number}{'' if name in self.numbered else f'_SIGN{number}'}" for number in (0, 1, 2, 10, 100, 101)]
        classes = corpus(name).classes(set(labels))
        assert classes == corpus(name).classes({*reversed(labels)})
        assert set(labels) <= set(classes)
        assert len(set(classes)) == len(classes)

    @pytest.mark.parametrize("state", ["empty", "missing"])
    def test_a_root_without_the_corpus_says_what_is_expected(self, name: str, state: str, tmp_path: Path) -> None:
        root = tmp_path / state
        if state == "empty":
            root.mkdir()
        with pytest.raises(UserError, match="expected") as told:
            manifest.bind(Home(tmp_path / "cache", tmp_path / "manifests"), "name", corpus=name, root=root)
        assert corpus(name).layout in str(told.value)
        assert str(root) in str(told.value)
        assert "\n" not in str(told.value)
        assert not (tmp_path / "manifests").exists(), "a name is bound to a corpus or not at all"
