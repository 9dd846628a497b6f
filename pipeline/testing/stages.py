"""What every stage keeps to."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest

from pipeline import registry
from pipeline.cache.identity import fingerprint
from pipeline.errors import UserError
from pipeline.layouts import Layout, Part
from pipeline.testing._contract import printed
from pipeline.testing._created import created as created
from pipeline.testing._created import digest, other_values, upstream_of
from pipeline.testing.networks import NetworkContract
from pipeline.types import Extractor

HEAVY = ("torch", "torchvision", "mediapipe", "zarr", "h5py", "av", "decord", "tensorflow", "xgboost")


class StageContract(NetworkContract):
    """A stage is a frozen description that travels, whose every field counts, and whose rows are as it says."""

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
