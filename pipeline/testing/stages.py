"""What every stage keeps to."""

from __future__ import annotations

import json
import pickle
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest

from pipeline import registry
from pipeline.cache.identity import fingerprint
from pipeline.errors import UserError
from pipeline.layouts import Layout, Part
from pipeline.testing._contract import Contract, printed
from pipeline.types import STAGE_PREFIX, Extractor, Frame

HEAVY = ("torch", "torchvision", "mediapipe", "zarr", "h5py", "av", "decord", "tensorflow", "xgboost")
IMAGE = (48, 64, 3)
TRACKS: dict[str, list[tuple[int, ...]]] = {
    "rgb": [IMAGE],
    "radar": [IMAGE] * 3,
    "inertial": [(6,)],
    "skeleton": [(20, 3)],
    "landmarks": [(1662,)],
}


def created(name: str, **fields: Any) -> Extractor:
    """The stage with these fields."""
    stage: Extractor = registry.create("stage", name, fields)
    return stage


def digest(stage: Extractor) -> str:
    """Its identity, over an upstream stage that is always the same."""
    return fingerprint(stage, upstream_of(stage)).digest


def upstream_of(stage: Extractor) -> str | None:
    """In place of the digest of the stage that a derived one reads."""
    return "digest of the upstream" if stage.source.startswith(STAGE_PREFIX) else None


def other_values(name: str) -> dict[str, Any]:
    """Another valid value of each field: the first of some guesses that the stage takes."""
    found = {}
    for field, info in registry.find("stage", name).model_fields.items():
        guesses = ["random:7"] if field == "weights" else _guesses(info.annotation, info.default)
        found[field] = next((guess for guess in guesses if _takes(name, field, guess)), None)
    return {field: value for field, value in found.items() if value is not None}


def _takes(name: str, field: str, value: Any) -> bool:
    try:
        created(name, **{field: value})
    except UserError:
        return False
    return True


def _guesses(annotation: Any, value: Any) -> list[Any]:
    """Values of a field's type other than its default."""
    if typing.get_origin(annotation) is Literal:
        return [option for option in typing.get_args(annotation) if option != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1, value + 2, value * 2, value / 2, value - 1]
    if isinstance(value, tuple):
        return [value[:-1], *((*value[:-1], guess) for guess in _guesses(None, value[-1]))] if value else [("a",), (1,)]
    if isinstance(value, Mapping):
        return [{**value, "max_frames": 7}]
    if value is None:
        return [2, 0.5, "other", (1, 2)]
    return [f"{value}2", f"stage:{value}", *registry.names("stage")]


class StageContract(Contract):
    """A stage is a frozen description that travels, whose every field counts, and whose rows are as it says."""

    def frames(self, stage: Extractor) -> list[Frame]:
        """What a clip of the stage's source would give: random images, radar maps of three receivers, sensor or upstream rows.

        Give your own for a modality that is not among them.
        """
        random, source = np.random.default_rng(0), stage.source
        if source.startswith(STAGE_PREFIX):
            upstream = created(source.removeprefix(STAGE_PREFIX))
            return [(random.random(upstream.row_shape).astype(upstream.dtype),) for _ in range(24)]
        if source not in TRACKS:
            pytest.skip(f"no synthetic {source!r} frames here")
        return [
            tuple(random.integers(0, 256, shape).astype(np.uint8 if shape == IMAGE else np.float32) for shape in TRACKS[source])
            for _ in range(24)
        ]

    def test_an_extractor_is_registered(self, name: str) -> None:
        assert issubclass(registry.find("stage", name), Extractor)

    def test_the_docstring_says_shapes_first(self, name: str) -> None:
        first = (registry.find("stage", name).__doc__ or "").partition("\n")[0]
        assert re.search(r"\(.*\).* -> `?\(.*\).*(uint8|int\d+|float\d+)", first), f"no `(shape) -> (shape) dtype` in {first!r}"

    def test_fields_are_plain_json(self, name: str) -> None:
        stage = created(name)
        fields = json.loads(stage.model_dump_json())
        assert fields == json.loads(json.dumps(stage.model_dump(mode="json"), allow_nan=False))
        assert created(name, **fields) == stage

    def test_a_stage_survives_the_way_to_a_decode_process(self, name: str) -> None:
        stage = created(name)
        again = pickle.loads(pickle.dumps(stage))  # noqa: S301
        assert again == stage
        assert digest(again) == digest(stage)

    def test_a_stage_is_frozen_and_takes_no_other_field(self, name: str) -> None:
        stage = created(name)
        assert stage.model_config["frozen"]
        assert stage.model_config["extra"] == "forbid"
        with pytest.raises(UserError, match=rf"stage '{name}' has no field 'sourc'; did you mean 'source'\? Fields: "):
            created(name, sourc="rgb")

    def test_row_shape_and_dtype_are_of_arrays(self, name: str) -> None:
        stage = created(name)
        assert all(isinstance(size, int) and size > 0 for size in stage.row_shape)
        assert np.dtype(stage.dtype).kind in "fiu"

    def test_selected_frames_are_ascending_and_in_the_clip(self, name: str) -> None:
        for stage in self._variants(name):
            for length in (*range(0, 130), 240, 299, 400):
                for rate in (0.0, 12.5, 25.0, 29.97, 60.0):
                    wanted = stage.select(length, rate)
                    assert (wanted.ndim, wanted.dtype.kind) == (1, "i")
                    assert (np.diff(wanted) >= 0).all()
                    if len(wanted):
                        assert wanted[0] >= 0
                        assert wanted[-1] < length, f"frame {wanted[-1]} of {length} at {rate} Hz"

    def test_rows_are_made_of_items_that_exist(self, name: str) -> None:
        stage = created(name)
        for items in (*range(0, 70), 250):
            for window in stage.rows(items):
                assert 0 <= window.start < window.stop <= items
                assert window.step in (None, 1)

    def test_frames_become_rows_of_the_declared_shape(self, name: str) -> None:
        import torch

        torch.set_num_threads(1)
        stage = created(name, **({"weights": "random:0"} if "weights" in other_values(name) else {}))
        items = [np.ascontiguousarray(item) for item in stage.prepare(iter(self.frames(stage)))]
        assert len({(item.shape, item.dtype) for item in items}) <= 1, "items of one clip have one shape"
        forward = stage.load("cpu")
        if forward is None:
            assert {item.shape for item in items} <= {stage.row_shape}
            return
        windows = [items[window] for window in list(stage.rows(len(items)))[:2]]
        inputs = [window[0] if len(window) == 1 else np.stack(window) for window in windows]
        with torch.inference_mode():
            rows = forward(torch.from_numpy(np.stack(inputs)))
        assert tuple(rows.shape) == (len(inputs), *stage.row_shape)
        assert torch.isfinite(rows).all()

    def test_every_field_is_part_of_the_identity(self, name: str) -> None:
        digests = {"": digest(created(name))}
        values = other_values(name)
        assert set(values) == set(type(created(name)).model_fields), "give other_values a value of this type"
        for field, value in values.items():
            digests[field] = digest(created(name, **{field: value}))
        assert len(set(digests.values())) == len(digests), digests

    def test_naming_and_fingerprinting_imports_nothing_heavy(self, name: str) -> None:
        fields = {"weights": "random:0"} if "weights" in type(created(name)).model_fields else {}
        loaded = printed(f"""if True:
            import sys
            from pipeline import registry
            from pipeline.cache.identity import fingerprint
            stage = registry.create("stage", {name!r}, {fields!r})
            fingerprint(stage, "upstream"), stage.row_shape, stage.row_layout, stage.dtype, stage.select(100, 25.0), stage.rows(10)
            print(*[module for module in {HEAVY!r} if module in sys.modules])""")
        assert loaded == []

    def test_a_checkpoint_is_known_by_its_name_alone(self, name: str) -> None:
        stage = created(name)
        for checkpoint, published in stage.checkpoints.items():
            identity = fingerprint(created(name, weights=checkpoint), upstream_of(stage)).identity
            assert identity["weights"] == {"name": checkpoint, "hash": published}
            assert "weights" not in identity["fields"]

    def test_what_a_stage_says_of_its_values_fits_its_rows(self, name: str) -> None:
        for stage in self._variants(name):
            if stage.row_layout is not None:
                layout_fits(stage.row_layout, stage.row_shape)

    def _variants(self, name: str) -> list[Extractor]:
        """The stage by its defaults, and with another value of each field."""
        return [created(name), *(created(name, **{field: value}) for field, value in other_values(name).items())]


def layout_fits(layout: Layout, row_shape: tuple[int, ...]) -> None:
    """Parts of rows of this shape, which a mirror applied twice leaves as they are."""
    assert (layout.width,) == row_shape
    assert layout.swapped[layout.swapped].tolist() == list(range(layout.width))
    assert hash(layout) == hash(Layout(layout.parts))
    named = {part.name: part for part in layout.parts}
    assert len(named) == len(layout.parts)
    assert len({part.axes for part in layout.parts if part.kind == "place"}) <= 1, "places of a stage have one middle"
    for part in layout.parts:
        _part_fits(part, named)


def _part_fits(part: Part, named: dict[str, Part]) -> None:
    assert 0 <= part.axes <= min(3, part.size)
    assert (part.kind == "number") == (part.axes == 0)
    assert part.turns != "any" or part.axes == 3, "what has no depth cannot be turned any way"
    assert part.kind not in ("direction", "spin") or part.turns != "never"
    assert all(0 <= point < part.points for pair in part.pairs or () for point in pair)
    assert not part.parents or (len(part.parents) == part.points and part.turns == "any")
    if part.told_by:
        assert named[part.told_by].told_by == ""
    partner = named.get(part.partner)
    if partner:
        assert partner.partner == part.name
        assert (partner.points, partner.size, partner.kind) == (part.points, part.size, part.kind)
