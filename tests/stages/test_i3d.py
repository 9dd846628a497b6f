"""I3D is the published network: beside a second one written by hand from formulas, in both namings of its checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline import registry
from pipeline.cache import open_stage
from pipeline.cache.identity import fingerprint
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.types import Array
from stages import _i3d, i3d
from stages.i3d import I3D
from tests.video_files import coloured, write_clip

SMALL = 193


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def stage(**fields: Any) -> I3D:
    made = registry.create("stage", "i3d", fields)
    assert isinstance(made, I3D)
    return made


def same(values: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """TensorFlow's rule, an axis at a time: ceil(size / stride) outputs, zeros floor(total / 2) before and the rest after."""
    for axis, (wide, step) in enumerate(zip(kernel, stride, strict=True), 2):
        size = values.shape[axis]
        total = max(wide - step, 0) if size % step == 0 else max(wide - size % step, 0)
        before, after = list(values.shape), list(values.shape)
        before[axis], after[axis] = total // 2, total - total // 2
        values = torch.cat([values.new_zeros(before), values, values.new_zeros(after)], axis)
    return values


class Reference:
    """The network from its state under piergiaj's names, batch norm spelled out, every pool padded with zeros."""

    def __init__(self, state: dict[str, Tensor], eps: float) -> None:
        self.state, self.eps = state, eps

    def unit(self, name: str, values: Tensor, wide: int = 1, step: int = 1) -> Tensor:
        weight, offset, mean, variance = (self.state[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        values = F.conv3d(same(values, (wide,) * 3, (step,) * 3), self.state[f"{name}.conv3d.weight"], stride=step)
        scale = (weight / torch.sqrt(variance + self.eps))[None, :, None, None, None]
        return torch.clamp((values - mean[None, :, None, None, None]) * scale + offset[None, :, None, None, None], min=0)

    def pool(self, values: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        return F.max_pool3d(same(values, kernel, stride), kernel, stride)

    def mixed(self, name: str, values: Tensor) -> Tensor:
        one = self.unit(f"{name}.b1b", self.unit(f"{name}.b1a", values), 3)
        two = self.unit(f"{name}.b2b", self.unit(f"{name}.b2a", values), 3)
        three = self.unit(f"{name}.b3b", self.pool(values, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.unit(f"{name}.b0", values), one, two, three], 1)

    def pooled(self, frames: Array, pool: int = 2) -> Tensor:
        """`(T, H, W, 3)` uint8 -> `(1024, T', H', W')` outputs of the average pool."""
        values = torch.from_numpy(frames.astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
        values = self.pool(self.unit("Conv3d_1a_7x7", values, 7, 2), (1, 3, 3), (1, 2, 2))
        values = self.unit("Conv3d_2c_3x3", self.unit("Conv3d_2b_1x1", values), 3)
        values = self.pool(values, (1, 3, 3), (1, 2, 2))
        values = self.pool(self.mixed("Mixed_3c", self.mixed("Mixed_3b", values)), (3, 3, 3), (2, 2, 2))
        for letter in "bcdef":
            values = self.mixed(f"Mixed_4{letter}", values)
        values = self.mixed("Mixed_5c", self.mixed("Mixed_5b", self.pool(values, (2, 2, 2), (2, 2, 2))))
        steps, rows, columns = (size - wide + 1 for size, wide in zip(values.shape[2:], (pool, 7, 7), strict=True))
        boxes = [
            values[0, :, t : t + pool, y : y + 7, x : x + 7].mean((1, 2, 3))
            for t in range(steps)
            for y in range(rows)
            for x in range(columns)
        ]
        return torch.stack(boxes, 1).reshape(1024, steps, rows, columns)

    def row(self, frames: Array, pool: int = 2) -> Array:
        row: Array = self.pooled(frames, pool).mean((1, 2, 3)).numpy()
        return row

    def logits(self, frames: Array) -> Array:
        scores = F.conv3d(self.pooled(frames)[None], self.state["logits.conv3d.weight"], self.state["logits.conv3d.bias"])
        mean: Array = scores[0].mean((1, 2, 3)).numpy()
        return mean


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights whose batch norms do something: small variances, so that their eps shows."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        network = _i3d.plain(classes=7)
        found = {name: values.clone() for name, values in network.state_dict().items()}
        for name, values in found.items():
            if name.endswith("running_var"):
                values.uniform_(0.02, 0.1)
            elif ".bn." in name and values.is_floating_point():
                values.add_(torch.randn_like(values), alpha=0.2)
    return found


def hassony2(name: str) -> str:
    """The name of a tensor in the other kind of checkpoint."""
    name = name.replace("Conv3d_", "conv3d_").replace("Mixed_", "mixed_").replace("logits.", "conv3d_0c_1x1.").replace(".bn.", ".batch3d.")
    for theirs, ours in (("b0", "0"), ("b1a", "1.0"), ("b1b", "1.1"), ("b2a", "2.0"), ("b2b", "2.1"), ("b3b", "3.1")):
        name = name.replace(f".{theirs}.", f".branch_{ours}.")
    return name


@pytest.fixture(scope="module")
def piergiaj_file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "rgb.pt"
    torch.save(state, path)
    return str(path)


@pytest.fixture(scope="module")
def hassony2_file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An old one, without counters of batches."""
    path = tmp_path_factory.mktemp("weights") / "i3d_rgb.pt"
    torch.save({hassony2(name): values for name, values in state.items() if "num_batches" not in name}, path)
    return str(path)


def frames(count: int, side: int = SMALL, seed: int = 0) -> Array:
    """Noise that changes with time, coarse enough to survive the first layers."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, side // 8 + 1, side // 8 + 1, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2)[:, :side, :side])


def run(made: I3D, *windows: Array, logits: bool = False) -> Array:
    forward = made.logits("cpu") if logits else made.load("cpu")
    with torch.inference_mode():
        rows: Array = forward(torch.from_numpy(np.stack(windows))).numpy()
    return rows


def assert_near(got: Array, wanted: Array) -> None:
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(("window", "side"), [(9, 193), (16, 224), (24, 193), (17, 230)])
def test_rows_are_those_of_a_network_written_by_hand(window: int, side: int, state: dict[str, Tensor], piergiaj_file: str) -> None:
    made = stage(weights=piergiaj_file, window=window, side=side)
    clip = frames(window, side)
    wanted = Reference(state, 1e-3).row(clip)
    assert np.std(wanted) > 0.1 * np.abs(wanted).max(), "the comparison tells little"
    assert_near(run(made, clip)[0], wanted)


def test_a_pool_of_three_takes_the_three_steps_of_24_frames_alike(state: dict[str, Tensor], piergiaj_file: str) -> None:
    clip = frames(24)
    one, other = (run(stage(weights=piergiaj_file, window=24, side=SMALL, pool=pool), clip)[0] for pool in (2, 3))
    assert_near(other, Reference(state, 1e-3).row(clip, 3))
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


def test_the_other_naming_is_the_same_network_with_its_own_eps(state: dict[str, Tensor], hassony2_file: str, piergiaj_file: str) -> None:
    clip = frames(9)
    wanted = Reference(state, 1e-5).row(clip)
    assert_near(run(stage(weights=hassony2_file, window=9, side=SMALL), clip)[0], wanted)
    assert_near(run(stage(weights=piergiaj_file, window=9, side=SMALL, bn_eps=1e-5), clip)[0], wanted)
    other = run(stage(weights=piergiaj_file, window=9, side=SMALL), clip)[0]
    assert np.abs(other - wanted).max() > 1e-2 * np.abs(wanted).max()


def test_logits_are_the_classifier_of_the_checkpoint(state: dict[str, Tensor], hassony2_file: str) -> None:
    clip = frames(24)
    got = run(stage(weights=hassony2_file, window=24, side=SMALL), clip, logits=True)
    assert_near(got[0], Reference(state, 1e-5).logits(clip))
    assert got.shape == (1, 7)


def test_a_row_does_not_depend_on_its_neighbours_and_bfloat16_is_near(piergiaj_file: str) -> None:
    clips = [frames(9, seed=seed) for seed in range(3)]
    made = stage(weights=piergiaj_file, window=9, side=SMALL)
    together = run(made, *clips)
    assert_near(together[1:2], run(made, clips[1]))
    half = run(stage(weights=piergiaj_file, window=9, side=SMALL, precision="bfloat16"), clips[0])
    assert half.dtype == np.float32
    cosine = half[0] @ together[0] / np.linalg.norm(half[0]) / np.linalg.norm(together[0])
    assert 0.999 < cosine < 0.9999999


def test_the_network_has_the_published_size() -> None:
    network = _i3d.plain()
    assert sum(values.numel() for values in network.parameters()) == 12_697_264
    assert sum(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules()) == 57
    assert {tuple(network.get_parameter(f"logits.conv3d.{name}").shape) for name in ("weight", "bias")} == {(400, 1024, 1, 1, 1), (400,)}
    assert next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm3d)).eps == 1e-3


def test_names_of_hassony2_become_piergiajs(state: dict[str, Tensor]) -> None:
    theirs = {hassony2(name): values for name, values in state.items()}
    assert "mixed_4d.branch_2.1.batch3d.running_var" in theirs
    assert "conv3d_0c_1x1.conv3d.bias" in theirs
    wanted = {name for name in state if not name.endswith("num_batches_tracked")}
    assert set(_i3d.named(theirs)) == set(_i3d.named(state)) == wanted


def test_a_seed_means_the_plain_constructor(piergiaj_file: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        drawn = {name: values for name, values in _i3d.plain().state_dict().items() if values.is_floating_point()}
    clip = frames(9)
    assert_near(run(stage(weights="random:5", window=9, side=SMALL), clip)[0], Reference(drawn, 1e-3).row(clip))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("Mixed_4c.b1a.conv3d.weight"), r"do not fit InceptionI3D: .*Missing key\(s\).*Mixed_4c\.b1a"),
        (lambda state: state.update(extra=torch.zeros(1)), r'Unexpected key\(s\) in state_dict: "extra"'),
        (lambda state: state.update({"Mixed_5c.b0.bn.bias": torch.zeros(3)}), r"size mismatch for Mixed_5c\.b0\.bn\.bias"),
        (lambda state: state.pop("logits.conv3d.bias"), r"logits\.conv3d\.bias"),
    ],
)
def test_a_file_of_another_network_is_one_line(change: Any, reason: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "other.pt")
    with pytest.raises(UserError, match=reason) as told:
        stage(weights=str(tmp_path / "other.pt")).load("cpu")
    assert "\n" not in str(told.value)


def test_weights_that_are_no_file_say_what_would_be() -> None:
    with pytest.raises(UserError, match=r"weights='kinetics' is no file; use random:SEED or the path of a checkpoint"):
        fingerprint(stage(weights="kinetics"))


@pytest.mark.parametrize("size", [*range(1, 12), 193, 224])
@pytest.mark.parametrize(("wide", "step"), [(1, 1), (3, 1), (3, 2), (2, 2), (7, 2), (1, 2)])
def test_padding_is_tensorflows_same(size: int, wide: int, step: int) -> None:
    padded = _i3d.same_padded(torch.ones(1, 1, size, 1, 1), (wide, 1, 1), (step, 1, 1))[0, 0, :, 0, 0]
    outputs = -(-size // step)
    zeros = max((outputs - 1) * step + wide - size, 0)
    assert padded.tolist() == [0] * (zeros // 2) + [1] * size + [0] * (zeros - zeros // 2)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"window": 8}, r"stage 'i3d': window=8: Input should be greater than or equal to 9"),
        ({"side": 192}, r"stage 'i3d': side=192: Input should be greater than or equal to 193"),
        ({"short_side": 200}, r"stage 'i3d': side=224 cannot be cut from short_side=200; give a larger short_side"),
        ({"pool": 3}, r"stage 'i3d': pool=3 is more than the 2 steps of window=16; give a larger window"),
        ({"stride": 0}, r"stage 'i3d': stride=0: Input should be greater than 0"),
        ({"rate_hz": "-1"}, r"stage 'i3d': rate_hz='-1': Input should be greater than or equal to 0"),
    ],
)
def test_what_the_network_cannot_take_is_refused_in_one_line(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as told:
        stage(**fields)
    assert "\n" not in str(told.value)


def test_the_smallest_window_and_side_that_are_allowed_are_the_smallest_that_work() -> None:
    def outputs(size: int, halvings: int, pool: int) -> int:
        return -(-size // (1 << halvings)) - pool + 1

    assert [outputs(side, 5, 7) for side in (192, 193, 224)] == [0, 1, 1]
    assert [outputs(window, 3, 2) for window in (8, 9, 16, 24)] == [0, 1, 1, 2]


def test_rows_of_the_engine_are_those_of_the_windows_cut_by_hand(
    tmp_path: Path, state: dict[str, Tensor], piergiaj_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.machine.cores", lambda: 1)
    for name, count in {"a/long": 16, "b/short": 4}.items():
        write_clip(tmp_path / f"data/{name}.mp4", count, size=(256, 194), rate=30, draw=coloured)
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    table = manifest.bind(home, "small", corpus="folder", root=tmp_path / "data")
    fields = {"weights": piergiaj_file, "window": "9", "stride": "4", "short_side": "194", "side": "193"}
    outcome = extract(home, table, [configure(home, table, "i3d", now=fields)], Options(device="cpu"), Progress())
    assert (outcome.extracted, outcome.failed) == ({"i3d": 2}, {})
    rows = open_stage("small", "i3d", cache=home.cache, manifests=home.manifests)
    for name, indices, starts in (("a/long", [round(i * 1.2) for i in range(13)], [0, 4]), ("b/short", [0, 1, *[2] * 7], [0])):
        with av.open(str(tmp_path / f"data/{name}.mp4")) as container:
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        chosen = np.stack([images[i] for i in indices])[:, :193, 31:224]
        wanted = np.stack([Reference(state, 1e-3).row(chosen[start : start + 9]) for start in starts])
        assert_near(rows[name], wanted)


def test_the_docstring_names_its_sources() -> None:
    assert re.search("piergiaj/pytorch-i3d", i3d.__doc__ or "")
    assert re.search("hassony2/kinetics_i3d_pytorch", i3d.__doc__ or "")
