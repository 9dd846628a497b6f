"""What a stage says of its values is believed by augmentation, statistics and models, of any stage: its own file is enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import registry
from pipeline.cache.stage import layout_of, published
from pipeline.corpus.manifest import Home
from pipeline.corpus.presets import PRESETS, models_of, second_names, suited
from pipeline.formats import import_rows
from pipeline.layouts import LANDMARKS, Layout
from pipeline.learning.recipe import Recipe
from pipeline.reports.looking import health
from pipeline.testing.stages import created, layout_fits
from tests.checkout import Checkout
from tests.import_sources import sequences

HOLISTIC = Layout(tuple(LANDMARKS.values()))
MORE: list[tuple[str, dict[str, Any]]] = [
    ("kinematics", {"source": "stage:skeleton"}), ("kinematics", {"source": "stage:skeleton", "axes": 2}),
    ("kinematics", {"source": "stage:keypoints", "groups": ("absolute", "angles", "shape", "trajectory", "local"), "axes": 2}),
    ("kinematics", {"source": "stage:other", "layout": "skeleton", "groups": ("angles", "trajectory")}),
    ("kinematics", {"groups": ("motion",)}), ("mp_data", {"values": 258}), ("mp_data", {"values": 7}), ("keypoints", {"hands": "wrist"}),
    ("skeleton", {"joints": 25}), ("inertial", {"columns": (3, 4, 5)}), ("inertial", {"stored_units": ("other",) * 6}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), MORE)
def test_what_a_stage_says_of_its_values_fits_its_rows_with_these_fields(name: str, fields: dict[str, Any]) -> None:
    stage = created(name, **fields)
    if stage.row_layout is not None:
        layout_fits(stage.row_layout, stage.row_shape)


@pytest.mark.parametrize("corpus", registry.names("dataset"))
def test_no_corpus_asks_of_its_stages_what_they_cannot_take(corpus: str) -> None:
    dataset = registry.create("dataset", corpus)
    every = [(models_of(dataset, preset), *pair) for preset in PRESETS for pair in models_of(dataset, preset).items()]
    for training, name, settings in every:
        recipe: Recipe = registry.create("model", name, settings).adapted(training)
        kinds = {stage: second_names(dataset).get(stage, stage) for stage in (*recipe.stages, *recipe.aids)}
        recipe.check({stage: registry.create("stage", kind, suited(dataset, stage, kind)).row_layout for stage, kind in kinds.items()})


DOTS = '''"""Two dots: a landmark stage of one file."""

import numpy as np

from pipeline.layouts import Layout, Part
from pipeline.types import Extractor


class Dots(Extractor):
    """`(T, H, W, 3)` uint8 -> `(T, 4)` float32, a left and a right dot."""

    source: str = "rgb"

    @property
    def row_shape(self):
        return (4,)

    @property
    def row_layout(self):
        return Layout((Part("dots", 2, 2, 2, turns="plane", pairs=((0, 1),)),))

    def prepare(self, frames):
        for number, (image,) in enumerate(frames):
            yield np.array([image[0, 0, 0], image[0, 0, 1], 1, 2], np.float32) * bool(number)


stage: type[Extractor] = Dots
'''


def test_a_landmark_stage_is_one_new_file(tmp_path: Path) -> None:
    checkout = Checkout.make(tmp_path, clips=12)
    (checkout.folder / "stages" / "dots.py").write_text(DOTS)
    checkout.ok("extract", "tiny", "dots")
    assert "empty: dots 12%" in checkout.ok("status", "tiny", "--health").stdout
    sized = ("--set", "stages=dots", "--set", "hidden=4", "--set", "epochs=1", "--set", "motion=1")
    trained = ("train", "tiny", "lstm_late", *sized, "--set", "rotate=10", "--json")
    checkout.ok(*trained, "--set", "mirror=0.5")
    first = json.loads(checkout.ok(*trained).stdout)["run"]
    refused = checkout.run("train", "tiny", "lstm_late", *sized, "--set", "turn=10")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith(
        "rows of stage 'dots' cannot take turn=10.0 (its dots has no depth that is measured as x and y are); leave it out: --set turn=0"
    )
    checkout.edit("stages/dots.py", "pairs=((0, 1),)", "pairs=None")  # what it says is no part of the identity
    assert checkout.plan("dots")["dots"]["fresh"] == 12
    refused = checkout.run("train", "tiny", "lstm_late", *sized, "--set", "mirror=0.5")
    assert "cannot take mirror=0.5 (what is left and right of its dots is not known)" in refused.stderr
    assert json.loads(checkout.ok(*trained).stdout)["run"] != first
    checkout.edit("stages/dots.py", "1, 2], np", "1, 3], np")
    assert checkout.plan("dots")["dots"]["fresh"] == 0


def test_imported_rows_of_the_width_of_known_landmarks_are_these(tmp_path: Path) -> None:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    x = np.random.default_rng(0).random((6, 5, 1662)).astype(np.float32)
    x[:, :2, 1536:1599] = 0
    for name, rows in (("whole", x), ("unknown", x[..., :70])):
        import_rows(home, name, "theirs", sequences(tmp_path / f"{name}.npz", x=rows, label=np.repeat(["a", "b"], 3), sequence=None), "npz")
    known, unknown = (published(home, name, "theirs") for name in ("whole", "unknown"))
    assert known is not None
    assert unknown is not None
    assert layout_of(known) == HOLISTIC
    assert layout_of(unknown) is None
    found = health.health(home, "whole", "theirs")
    assert found is not None
    assert found["empty_parts"] == {"pose": 0, "face": 0, "left_hand": 0.4, "right_hand": 0}


def test_mp_data_says_what_holistic_says() -> None:
    assert registry.create("stage", "mp_data").row_layout == registry.create("stage", "holistic").row_layout == HOLISTIC
    bodies = registry.create("stage", "holistic", {"include": ("pose", "hands")}).row_layout
    assert registry.create("stage", "mp_data", {"values": 258}).row_layout == bodies
