"""ResNet50 rows are those of a plain loop, whatever lies beside a clip in a batch; weights are what their identity says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights, resnet50

from pipeline import registry
from pipeline.cache import open_stage, weights
from pipeline.cache.identity import fingerprint
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.types import Array, evenly
from tests.video_files import coloured, write_clip

SMALL = (64, 80)
CLIPS = {"a/one": ((64, 48), 5), "a/two": ((96, 64), 13), "b/three": ((48, 96), 1), "b/four": ((128, 96), 3)}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def network(seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: torch.nn.Module = resnet50(weights=None)
    return made


def plainly(net: torch.nn.Module, path: Path, most: int, size: tuple[int, int]) -> Array:
    """One clip, one image at a time: what any reader of the paper would write."""
    with av.open(str(path)) as container:
        images = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    rows = []
    for index in evenly(len(images), most):
        small = images[index].resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        with torch.no_grad():
            rows.append(net((pixels - mean[:, None, None]) / std[:, None, None])[0].numpy())
    return np.stack(rows)


def test_rows_of_the_engine_are_those_of_a_plain_loop_for_every_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.machine.cores", lambda: 1)
    for name, (size, count) in CLIPS.items():
        write_clip(tmp_path / f"data/{name}.mp4", count, size=size, options={"bf": "2"}, draw=coloured)
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    table = manifest.bind(home, "small", corpus="folder", root=tmp_path / "data")
    stage = configure(home, table, "resnet50", now={"weights": "random:0", "max_frames": 6, "resize": SMALL})
    outcome = extract(home, table, [stage], Options(device="cpu"), Progress())
    assert outcome.extracted == {"resnet50": len(CLIPS)}
    features = open_stage("small", "resnet50", cache=home.cache, manifests=home.manifests)
    net = network().eval()
    net.fc = torch.nn.Identity()
    for name in CLIPS:
        expected = plainly(net, tmp_path / f"data/{name}.mp4", 6, SMALL)
        assert features[name].shape == expected.shape == (min(6, CLIPS[name][1]), 2048)
        np.testing.assert_allclose(features[name], expected, atol=1e-4 * np.abs(expected).max())


def rows(images: Array, **fields: Any) -> torch.Tensor:
    forward = registry.create("stage", "resnet50", fields).load("cpu")
    with torch.inference_mode():
        result: torch.Tensor = forward(torch.from_numpy(images))
    return result


@pytest.fixture(scope="module")
def images() -> Array:
    return np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)


def test_a_row_does_not_depend_on_its_neighbours(images: Array) -> None:
    forward = registry.create("stage", "resnet50", {"weights": "random:0"}).load("cpu")
    with torch.inference_mode():
        together = forward(torch.from_numpy(images))
        alone = torch.cat([forward(torch.from_numpy(image[None])) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


def test_batch_norms_folded_into_their_convolutions_give_the_same_rows() -> None:
    network = weights.initialised(lambda: resnet50(weights=None), "random:0", dict)
    random = torch.Generator().manual_seed(0)
    for norm in [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]:
        norm.running_mean = torch.randn(norm.num_features, generator=random) / 10
        norm.running_var = torch.rand(norm.num_features, generator=random) + 0.5
    pictures = torch.rand(1, 3, 64, 64, generator=random)
    with torch.inference_mode():
        expected = network(pictures)
        found = weights.folded(network)(pictures)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_bfloat16_is_near_float32_and_still_gives_float32_rows(images: Array) -> None:
    full, half = (rows(images, weights="random:0", precision=precision) for precision in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    assert (torch.nn.functional.cosine_similarity(full, half) > 0.999).all()
    assert not torch.equal(full, half)


@pytest.mark.parametrize("name", ["whole.pth", "nested.pth", "without_fc.pth", "whole.safetensors", "without_fc.safetensors"])
def test_weights_from_a_file_are_those_of_the_network_that_wrote_it(name: str, images: Array, tmp_path: Path) -> None:
    state = {key: values for key, values in network(3).state_dict().items() if not (name.startswith("without") and key.startswith("fc."))}
    path = str(tmp_path / name)
    if name.endswith("safetensors"):
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if name == "nested.pth" else state, path)
    assert torch.equal(rows(images[:1], weights=path), rows(images[:1], weights="random:3"))


def test_seeds_give_other_networks_and_leave_the_global_generator_alone(images: Array) -> None:
    before = torch.random.get_rng_state()
    assert not torch.equal(rows(images[:1], weights="random:0"), rows(images[:1], weights="random:1"))
    assert torch.equal(torch.random.get_rng_state(), before)


class Code:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return print, ("code in a checkpoint ran",)


BAD_WEIGHTS: dict[str, tuple[Any, str]] = {
    "code.pth": (lambda path: torch.save({"conv1.weight": Code()}, path), r"no checkpoint of plain tensors: it is damaged, or holds code"),
    "text.pth": (lambda path: path.write_text("hello world"), r"no checkpoint of plain tensors: it is damaged"),
    "empty.pth": (lambda path: path.touch(), r"no checkpoint of plain tensors: it is damaged"),
    "text.safetensors": (lambda path: path.write_text("hello"), r"no checkpoint of plain tensors: it is damaged.*SafetensorError"),
    "tensor.pth": (lambda path: torch.save(torch.zeros(3), path), "it holds no state_dict"),
    "list.pth": (lambda path: torch.save([1], path), "it holds no state_dict"),
    "other.pth": (lambda path: torch.save({1: torch.zeros(3)}, path), "it holds no state_dict"),
    "small.pth": (lambda path: torch.save({"conv1.weight": torch.zeros(3)}, path), r"do not fit ResNet: .*Missing key\(s\) in state_dict"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_a_wrong_weights_file_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, reason = BAD_WEIGHTS[name]
    make(tmp_path / name)
    with pytest.raises(UserError, match=rf"weights='.*{re.escape(name)}' .*{reason}") as told:
        registry.create("stage", "resnet50", {"weights": str(tmp_path / name)}).load("cpu")
    assert "\n" not in str(told.value)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ("nowhere.pth", r"weights='nowhere\.pth' is no file; use IMAGENET1K_V1, IMAGENET1K_V2, random:SEED or the path of a checkpoint"),
        ("imagenet1k_v2", "is no file; use IMAGENET1K_V1"),
        ("random:x", r"weights='random:x': the seed is a whole number below 2\*\*64, as in random:0"),
        ("random:-1", "the seed is a whole number"),
        ("random:", "the seed is a whole number"),
        (f"random:{2**64}", r"below 2\*\*64"),
    ],
)
def test_weights_that_are_none_are_refused_before_anything_runs(weights: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        fingerprint(registry.create("stage", "resnet50", {"weights": weights}))


def test_checkpoints_are_torchvisions_names_and_hashes() -> None:
    published = {member.name: re.search(r"-([0-9a-f]{8})\.pth$", member.url) for member in ResNet50_Weights}
    assert registry.find("stage", "resnet50").checkpoints == {name: found[1] for name, found in published.items() if found}


def test_a_file_in_torchs_cache_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(network().state_dict(), tmp_path / "checkpoints" / "resnet50-11ad3fa6.pth")
    with pytest.raises(UserError, match=r"resnet50-11ad3fa6\.pth is not what torchvision publishes as IMAGENET1K_V2: delete it"):
        registry.create("stage", "resnet50").load("cpu")


def test_without_network_the_line_says_where_the_weights_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(type(ResNet50_Weights.IMAGENET1K_V2), "get_state_dict", refuse)
    with pytest.raises(
        UserError, match=r"cannot be downloaded here \(Network is unreachable\): put resnet50-11ad3fa6\.pth into .*checkpoints, or"
    ):
        registry.create("stage", "resnet50").load("cpu")


@pytest.mark.parametrize(("size", "places"), [((64, 64), (2, 2)), ((65, 100), (3, 4)), ((224, 224), (7, 7))])
def test_the_map_is_what_the_average_pool_would_take(size: tuple[int, int], places: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    made = registry.create("stage", "resnet50", {"output": "map", "resize": size})
    assert (made.row_shape, made.dtype) == ((2048, *places), "float16")
    maps = rows(images, weights="random:0", output="map", resize=size)
    assert (tuple(maps.shape), maps.dtype) == ((2, 2048, *places), torch.float16)
    net = network().eval()
    net.avgpool, net.fc = torch.nn.Identity(), torch.nn.Identity()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = net((pixels - mean[:, None, None]) / std[:, None, None]).reshape(2, 2048, *places)
    assert torch.isfinite(maps).all()
    torch.testing.assert_close(maps.float(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    pooled = rows(images, weights="random:0", resize=size)
    torch.testing.assert_close(maps.float().mean((2, 3)), pooled, rtol=0, atol=1e-3 * float(pooled.abs().max()))


def test_the_map_is_published_under_a_second_name_beside_the_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.machine.cores", lambda: 1)
    write_clip(tmp_path / "data/a/one.mp4", 5, size=(64, 48), draw=coloured)
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    table = manifest.bind(home, "small", corpus="folder", root=tmp_path / "data")
    fields = {"weights": "random:0", "resize": SMALL}
    vectors = configure(home, table, "resnet50", now=fields)
    maps = configure(home, table, "resnet50_map", now={**fields, "output": "map"}, kind="resnet50")
    extract(home, table, [vectors, maps], Options(device="cpu"), Progress())
    opened = {name: open_stage("small", name, cache=home.cache, manifests=home.manifests)["a/one"] for name in ("resnet50", "resnet50_map")}
    assert (opened["resnet50_map"].shape, str(opened["resnet50_map"].dtype)) == ((5, 2048, 2, 3), "float16")
    means = opened["resnet50_map"].astype(np.float32).mean((2, 3))
    np.testing.assert_allclose(means, opened["resnet50"], atol=1e-3 * np.abs(opened["resnet50"]).max())
