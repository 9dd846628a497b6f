"""What every stage keeps to: each file of `stages/` is tested without being named here."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pipeline import registry
from pipeline.errors import UserError
from pipeline.fingerprint import fingerprint
from pipeline.types import STAGE_PREFIX, Extractor

STAGES = registry.names("stage")
CHECKOUT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "mediapipe", "zarr", "h5py", "av", "decord", "tensorflow", "xgboost")
LONGEST = 250


def created(name: str, **fields: Any) -> Extractor:
    stage: Extractor = registry.create("stage", name, fields)
    return stage


def source_of(name: str) -> str:
    return (CHECKOUT / "stages" / f"{name}.py").read_text()


@pytest.mark.parametrize("name", STAGES)
def test_the_last_line_registers_an_extractor(name: str) -> None:
    last = source_of(name).strip().splitlines()[-1]
    assert re.fullmatch(r"stage: type\[Extractor\] = \w+", last)
    assert issubclass(registry.find("stage", name), Extractor)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_file_keeps_to_the_house_size(name: str) -> None:
    assert len(source_of(name).splitlines()) <= LONGEST


@pytest.mark.parametrize("name", STAGES)
def test_the_docstring_says_shapes_first(name: str) -> None:
    first = (registry.find("stage", name).__doc__ or "").splitlines()[0]
    assert re.search(r"\(.*\).* -> `?\(.*\).*(uint8|int\d+|float\d+)", first), f"no `(shape) -> (shape) dtype` in {first!r}"


@pytest.mark.parametrize("name", STAGES)
def test_fields_are_plain_json(name: str) -> None:
    stage = created(name)
    fields = json.loads(stage.model_dump_json())
    assert fields == json.loads(json.dumps(stage.model_dump(mode="json"), allow_nan=False))
    assert created(name, **fields) == stage


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_survives_the_way_to_a_decode_process(name: str) -> None:
    stage = created(name)
    again = pickle.loads(pickle.dumps(stage))  # noqa: S301
    assert again == stage
    assert digest(again) == digest(stage)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_frozen_and_takes_no_other_field(name: str) -> None:
    stage = created(name)
    assert stage.model_config["frozen"]
    assert stage.model_config["extra"] == "forbid"
    with pytest.raises(UserError, match=rf"stage '{name}' has no field 'sourc'; did you mean 'source'\? Fields: "):
        created(name, sourc="rgb")


@pytest.mark.parametrize("name", STAGES)
def test_row_shape_and_dtype_are_of_arrays(name: str) -> None:
    stage = created(name)
    assert all(isinstance(size, int) and size > 0 for size in stage.row_shape)
    assert np.dtype(stage.dtype).kind in "fiu"


@pytest.mark.parametrize("name", STAGES)
def test_selected_frames_are_ascending_and_in_the_clip(name: str) -> None:
    for stage in (created(name), *(created(name, **{field: value}) for field, value in other_values(name).items())):
        for length in (*range(0, 130), 240, 299, 400):
            for rate in (0.0, 12.5, 25.0, 29.97, 60.0):
                wanted = stage.select(length, rate)
                assert (wanted.ndim, wanted.dtype.kind) == (1, "i")
                assert (np.diff(wanted) >= 0).all()
                if len(wanted):
                    assert wanted[0] >= 0
                    assert wanted[-1] < length, f"frame {wanted[-1]} of {length} at {rate} Hz"


@pytest.mark.parametrize("name", STAGES)
def test_rows_are_made_of_items_that_exist(name: str) -> None:
    stage = created(name)
    for items in (*range(0, 70), 250):
        for window in stage.rows(items):
            assert 0 <= window.start < window.stop <= items
            assert window.step in (None, 1)


@pytest.mark.parametrize("name", STAGES)
def test_frames_become_rows_of_the_declared_shape(name: str) -> None:
    import torch

    torch.set_num_threads(1)
    stage = created(name, **({"weights": "random:0"} if "weights" in other_values(name) else {}))
    items = [np.ascontiguousarray(item) for item in stage.prepare(iter(frames_for(stage)))]
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


def frames_for(stage: Extractor) -> list[tuple[Any, ...]]:
    """What a clip of the stage's source would give: random images, radar maps of three receivers, sensor or upstream rows."""
    random, source = np.random.default_rng(0), stage.source
    image = (48, 64, 3)
    tracks: dict[str, list[tuple[int, ...]]] = {"rgb": [image], "radar": [image] * 3, "inertial": [(6,)]}
    tracks |= {"skeleton": [(20, 3)], "landmarks": [(1662,)]}
    if source.startswith(STAGE_PREFIX):
        upstream = created(source.removeprefix(STAGE_PREFIX))
        return [(random.random(upstream.row_shape).astype(upstream.dtype),) for _ in range(24)]
    if source not in tracks:
        pytest.skip(f"no synthetic {source!r} frames here")
    return [
        tuple(random.integers(0, 256, shape).astype(np.uint8 if shape == image else np.float32) for shape in tracks[source])
        for _ in range(24)
    ]


@pytest.mark.parametrize("name", STAGES)
def test_every_field_is_part_of_the_identity(name: str) -> None:
    digests = {"": digest(created(name))}
    values = other_values(name)
    assert set(values) == set(type(created(name)).model_fields), "give other_values a value of this type"
    for field, value in values.items():
        digests[field] = digest(created(name, **{field: value}))
    assert len(set(digests.values())) == len(digests), digests


@pytest.mark.parametrize("name", STAGES)
def test_naming_and_fingerprinting_imports_nothing_heavy(name: str) -> None:
    code = f"""if True:
        import sys
        from pipeline import registry
        from pipeline.fingerprint import fingerprint
        stage = registry.create("stage", {name!r}, {{"weights": "random:0"}} if {"weights" in type(created(name)).model_fields} else {{}})
        fingerprint(stage, "upstream"), stage.row_shape, stage.dtype, stage.select(100, 25.0), stage.rows(10)
        print(*[module for module in {HEAVY!r} if module in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", STAGES)
def test_a_checkpoint_is_known_by_its_name_alone(name: str) -> None:
    stage = created(name)
    for checkpoint, published in stage.checkpoints.items():
        identity = fingerprint(created(name, weights=checkpoint), upstream_of(stage)).identity
        assert identity["weights"] == {"name": checkpoint, "hash": published}
        assert "weights" not in identity["fields"]


def test_a_misspelt_stage_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(UserError, match=r"no stage called 'resnt50'; did you mean 'resnet50'\? Known: .*one file: stages/resnt50\.py"):
        registry.create("stage", "resnt50")


def test_a_value_of_the_wrong_type_is_one_line() -> None:
    with pytest.raises(UserError, match=r"stage 'resnet50': max_frames='many': Input should be a valid integer"):
        created("resnet50", max_frames="many")
    with pytest.raises(UserError, match=r"stage 'resnet50': max_frames='0': Input should be greater than 0"):
        created("resnet50", max_frames="0")


def test_text_of_a_command_line_is_read_as_the_fields_type() -> None:
    assert created("resnet50", max_frames="60", resize="96, 128") == created("resnet50", max_frames=60, resize=(96, 128))


def digest(stage: Extractor) -> str:
    """The identity, with a seed where the weights of the default are a file that is not here."""
    return fingerprint(stage, upstream_of(stage)).digest


def upstream_of(stage: Extractor) -> str | None:
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
        return [*((*value[:-1], guess) for guess in _guesses(None, value[-1])), value[:-1]] if value else [("a",), (1,)]
    if value is None:
        return [2, 0.5, "other", (1, 2)]
    return [f"{value}2", f"stage:{value}"]
