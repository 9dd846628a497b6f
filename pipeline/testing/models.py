"""What every model keeps to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import registry
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.learning.network import Network
from pipeline.learning.recipe import Recipe, Training
from pipeline.runs.exporting.export import TOLERANCE, compare
from pipeline.runs.exporting.formats import FORMATS
from pipeline.runs.exporting.module import Exported, Signature
from pipeline.testing._contract import Contract
from pipeline.types import Array

CLASSES = 3
SMALL = {"hidden": 4, "layers": 2, "width": 8, "heads": 2, "feed_forward": 8, "filters": 2, "kernel": 8, "steps": 12, "channels": 4}
"""Sizes at which a model of any kind is built in a moment."""
WIDER = {"normalize": "clip", "motion_two": 1.0, "level": True, "presence": True}
"""All that rows may be followed by, where a model has such settings."""


def small(name: str) -> Recipe:
    """A model as its file has it by default, at small sizes."""
    known = registry.find("model", name).model_fields
    sizes = {field: value for field, value in SMALL.items() if field in known and _takes(name, field, value)}
    recipe: Recipe = registry.create("model", name, sizes)
    return recipe


def _takes(name: str, field: str, value: int) -> bool:
    try:
        registry.create("model", name, {field: value})
    except UserError:
        return False
    return True


def row_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    takes_maps = isinstance(recipe, Network) and recipe.takes_maps
    return {stage: (2, 7, 7) if takes_maps else (4 + place,) for place, stage in enumerate(recipe.stages)}


def table_of(recipe: Recipe, lengths: list[int], seed: int = 0) -> Training:
    """Clips whose rows tell their class, of these lengths in every stage."""
    random = np.random.default_rng(seed)
    ids = tuple(f"clip{number}" for number in range(len(lengths)))
    labels = np.arange(len(lengths), dtype=np.int64) % CLASSES
    stages = {}
    for stage, shape in row_shapes(recipe).items():
        centres = np.random.default_rng(7).normal(size=(CLASSES, *shape))
        rows = {
            clip: (centres[label] + 0.3 * random.normal(size=(length, *shape))).astype(np.float32)
            for clip, label, length in zip(ids, labels, lengths, strict=True)
        }
        stages[stage] = Rows(rows, shape)
    return Training(ids, labels, tuple(f"class{number}" for number in range(CLASSES)), stages, seed)  # type: ignore[arg-type]


def batch_of(recipe: Recipe, lengths: list[int]) -> Batch:
    return table_of(recipe, lengths).gather(np.arange(len(lengths)))


def with_padding(batch: Batch, value: float, more: int = 3) -> Batch:
    """The same clips, padded by `more` rows, all padding holding `value`."""
    features = {}
    for stage, rows in batch.features.items():
        wider = torch.full((len(rows), rows.shape[1] + more, *rows.shape[2:]), value)
        for own, given, length in zip(wider, rows, batch.lengths[stage].tolist(), strict=True):
            own[:length] = given[:length]
        features[stage] = wider
    return Batch(batch.ids, features, batch.lengths, batch.labels)


def built(recipe: Recipe, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    shapes = row_shapes(recipe)
    return recipe.build({stage: int(np.prod(shape)) for stage, shape in shapes.items()}, CLASSES)


class Rows(dict[str, Array]):
    """Features in memory, in place of an opened stage."""

    name, digest = "stage", "digest"
    layout: Layout | None = None

    def __init__(self, rows: Mapping[str, Array], row_shape: tuple[int, ...], dtype: str = "float32") -> None:
        super().__init__(rows)
        self.row_shape, self.dtype = row_shape, dtype
        self.index = SimpleNamespace(shards=[], position={})

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.row_shape)) * np.dtype(self.dtype).itemsize

    def length(self, clip: str) -> int:
        return len(self[clip])

    def expect(self, clips: Iterable[str]) -> None:
        """They are here."""


class ModelContract(Contract):
    """A recipe is plain settings; a network learns what its rows tell, repeats itself, comes back, and never reads padding."""

    def concerns(self, name: str, fixtures: Sequence[str]) -> bool:
        """A network that other stages aid is taught by a model on these, and has tests of its own."""
        return "network" not in fixtures or (issubclass(registry.find("model", name), Network) and not small(name).aids)

    @pytest.fixture
    def network(self, name: str) -> Network:
        """The model at small sizes."""
        torch.set_num_threads(1)
        recipe = small(name)
        assert isinstance(recipe, Network)
        return recipe

    def test_settings_are_plain_values_that_make_the_same_recipe_again(self, name: str) -> None:
        recipe = small(name)
        assert registry.create("model", name, json.loads(json.dumps(recipe.model_dump(mode="json")))) == recipe

    def test_a_network_gives_one_row_of_logits_a_clip(self, network: Network) -> None:
        module = built(network).eval()
        for lengths in ([5, 1, 13], [0, 3], [0, 0], [1]):
            logits = module(batch_of(network, lengths))
            assert logits.shape == (len(lengths), CLASSES)
            assert logits.isfinite().all()

    @pytest.mark.parametrize("value", [float("nan"), 1e30, -7.0])
    @pytest.mark.parametrize("lengths", [[5, 1, 13, 3], [0, 4], [1, 1]])
    def test_padding_never_reaches_logits(self, network: Network, lengths: list[int], value: float) -> None:
        module, batch = built(network).eval(), batch_of(network, lengths)
        with torch.inference_mode():
            torch.testing.assert_close(module(with_padding(batch, value)), module(batch), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        "settings", [{"normalize": "train"}, {"normalize": "clip"}, {"motion": 2.0}, {"frames": 4, "sampling": "means", **WIDER}]
    )
    def test_padding_never_reaches_logits_however_rows_are_read(self, network: Network, settings: dict[str, object]) -> None:
        if not settings.keys() <= type(network).model_fields.keys():
            pytest.skip(f"{type(network).__name__} has no such settings")
        recipe = network.model_copy(update=settings)
        module, batch = built(recipe).eval(), batch_of(recipe, [5, 0, 13])
        recipe.prepare(module, table_of(recipe, [5, 0, 13]))
        with torch.inference_mode():
            torch.testing.assert_close(module(with_padding(batch, float("nan"))), module(batch), rtol=1e-5, atol=1e-6)

    def test_padding_never_reaches_gradients_or_statistics_in_training(self, network: Network) -> None:
        batch, found = batch_of(network, [5, 2, 13, 3]), []
        for given in (batch, with_padding(batch, float("nan"))):
            module = built(network).train()
            for part in module.modules():
                if isinstance(part, nn.Dropout):
                    part.p = 0.0
                if isinstance(part, nn.MultiheadAttention):
                    part.dropout = 0.0
            torch.autograd.backward(network.losses(module(given), given).mean())
            found.append([*(p.grad for p in module.parameters() if p.grad is not None), *module.buffers()])
        assert len(found[0]) == len(found[1]) > 0
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)

    def test_a_clip_is_scored_alike_alone_and_among_others(self, network: Network) -> None:
        module = built(network).eval()
        together = batch_of(network, [5, 1, 13])
        features = {stage: values[:1, :5].clone() for stage, values in together.features.items()}
        alone = Batch(("clip0",), features, {stage: n[:1] for stage, n in together.lengths.items()}, together.labels[:1])
        with torch.inference_mode():
            torch.testing.assert_close(module(alone)[0], module(together)[0], rtol=1e-5, atol=1e-6)

    def test_a_network_learns_what_its_rows_tell_and_repeats_it(self, network: Network) -> None:
        lengths = [4 + number % 5 for number in range(24)]
        fields = {"epochs": 30, "lr": 0.01, "batch_size": 12, "accumulate": 1, "warmup": 0, "patience": 0, "bn_momentum": 0.1}
        recipe = network.model_copy(update={field: value for field, value in fields.items() if field in type(network).model_fields})
        train, val = table_of(recipe, lengths), table_of(recipe, lengths[:12], seed=1)
        predictor = recipe.fit(train, val, "cpu")
        batch = val.gather(np.arange(12))
        assert (predictor.logits(batch).argmax(1) == val.labels).mean() > 0.9
        once = network.model_copy(update={"epochs": 1}).fit(train, val, "cpu").logits(batch)
        again = network.model_copy(update={"epochs": 1}).fit(train, val, "cpu").logits(batch)
        np.testing.assert_array_equal(once, again)

    @pytest.mark.parametrize(
        ("form", "settings"),
        [
            ("onnx", {}),
            ("torchscript", {}),
            ("onnx", {"frames": 0, "normalize": "clip", "motion": 2.0}),
            ("onnx", {"frames": 7, "sampling": "means", **WIDER}),
        ],
        ids=["onnx", "torchscript", "onnx-read-otherwise", "onnx-of-means"],
    )
    def test_a_model_is_exported_as_it_predicts_or_says_why_not(
        self, name: str, form: str, settings: dict[str, object], tmp_path: Path
    ) -> None:
        """For any number of clips and rows, whatever padding holds."""
        if not settings.keys() <= registry.find("model", name).model_fields.keys():
            pytest.skip(f"{name} has no such settings")
        recipe = small(name).model_copy(update=settings).adapted({})
        shapes = row_shapes(recipe)
        torch.manual_seed(0)
        predictor = recipe.predictor({stage: int(np.prod(shape)) for stage, shape in shapes.items()}, CLASSES)
        columns, signature = (2, 0), Signature(tuple(shapes), tuple(shapes.values()))
        try:
            network = Exported(predictor.network(), signature.stages, columns)
        except UserError as error:
            pytest.skip(f"{name}: {error}")
        FORMATS[form].write(network, signature, {"inputs": signature.pairs}, tmp_path / "model", False, None)
        every = [with_padding(batch_of(recipe, lengths), 7.0) for lengths in ([5, 1, 13], [0, 3], [1], [70, 64, 65, 200])]
        for batch in every:
            for stage in signature.stages[1:]:
                batch.lengths[stage] = batch.lengths[stage] * 2 // 3
        found = compare(FORMATS[form].open(tmp_path / "model"), predictor, every, signature, columns)
        assert found.difference < TOLERANCE
        assert (found.clips, found.otherwise) == (10, 0)

    def test_weights_come_back_from_their_folder(self, network: Network, tmp_path: Path) -> None:
        dims = {stage: int(np.prod(shape)) for stage, shape in row_shapes(network).items()}
        torch.manual_seed(1)
        first = network.predictor(dims, CLASSES)
        first.save(tmp_path)
        second = network.predictor(dims, CLASSES)
        second.load(tmp_path)
        batch = batch_of(network, [5, 1, 13])
        np.testing.assert_array_equal(first.logits(batch), second.logits(batch))
