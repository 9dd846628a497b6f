"""The Inception I3D network of Carreira and Zisserman (deepmind/kinetics-i3d), and its checkpoints in three namings.

Architecture as published there, in piergiaj/pytorch-i3d and hassony2/kinetics_i3d_pytorch, and in Keras in dlpbc/keras-kinetics-i3d.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.cache import weights as checkpoint

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
KERAS = {r"^Conv3d_(\d[b-f])_0a_1x1_": r"Mixed_\1.b0_", r"^Conv3d_(\d[b-f])_([123][ab])_\dx\d_": r"Mixed_\1.b\2_"}
KERAS |= {r"^Conv3d_6a_1x1_": "logits_", r"_conv/kernel$": ".conv3d.weight", r"_conv/bias$": ".conv3d.bias"}
KERAS |= {r"_bn/beta$": ".bn.bias", r"_bn/moving_mean$": ".bn.running_mean", r"_bn/moving_variance$": ".bn.running_var"}
"""Those of dlpbc/keras-kinetics-i3d, `layer/weight` in its `.h5` files, from which self-learning fusion (ngoctuhan) starts."""
UNITS = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3", *(f"{block}.{branch}" for block in MIXED for branch in BRANCHES))
"""Convolutions in the order in which both build them."""
NUMBERED = re.compile(r"(conv3d|batch_normalization|dense)(?:_(\d+))?/(\w+)")
"""What the networks that self-learning fusion has trained call their layers: by kind and number."""


def named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of any of the three namings in piergiaj's, without the counters that old files lack and evaluation does not read.

    Keras keeps kernels as (T, H, W, in, out), here (out, in, T, H, W); its batch norms have no scale there (scale=False), here 1.
    """
    import torch

    found = {}
    for theirs, values in _unnumbered(state).items():
        name = _renamed(_renamed(theirs, HASSONY2), KERAS)
        if theirs.endswith("/kernel") and values.ndim == 5:
            values = values.permute(4, 3, 0, 1, 2).contiguous()
        if theirs.endswith("/beta"):
            found[name.replace(".bias", ".weight")] = torch.ones_like(values)
        if not name.endswith(".num_batches_tracked"):
            found[name] = values
    return found


def _unnumbered(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Layers that are numbered, by the names of their units, without the dense ones that follow; as it is where it has other layers."""
    layers = {name: match for name in state if (match := NUMBERED.fullmatch(name))}
    kinds = {"conv3d": "conv", "batch_normalization": "bn"}
    orders = {kind: sorted({int(match[2] or 0) for match in layers.values() if match[1] == kind}) for kind in kinds}
    if any(len(order) != len(UNITS) for order in orders.values()) or len(layers) < len(state):
        return state
    units = {name: UNITS[orders[match[1]].index(int(match[2] or 0))] for name, match in layers.items() if match[1] in kinds}
    return {f"{unit}_{kinds[layers[name][1]]}/{layers[name][3]}": state[name] for name, unit in units.items()}


def _renamed(name: str, patterns: Mapping[str, str]) -> str:
    for theirs, ours in patterns.items():
        name = re.sub(theirs, ours, name)
    return name


def plain(classes: int = CLASSES, eps: float = 1e-3, channels: int = 3, *, pool: int = 2, precision: str = "float32") -> nn.ModuleDict:
    """I3D as torch initialises it, under piergiaj's names: 57 convolutions with batch norm, and the classifier; flow has 2 channels.

    It makes `(B, 1024)` of `(B, window, side, side, channels)` uint8.
    """
    from torch import nn

    class InceptionI3D(nn.ModuleDict):
        @property
        def blocks(self) -> list[nn.Module]:
            """Without the classifier, which makes no rows."""
            return [self[name] for name in self if name != "logits"]

        def forward(self, windows: Tensor) -> Tensor:
            pixels = windows.permute(0, 4, 1, 2, 3).float().mul(2 / 255).sub(1)
            with checkpoint.in_precision(precision, windows.device):
                return features(self, pixels, pool).float()

    def unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
        convolution = nn.Conv3d(inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=False)
        return nn.Sequential(OrderedDict(conv3d=convolution, bn=nn.BatchNorm3d(outputs, eps), relu=nn.ReLU(inplace=True)))

    network = InceptionI3D({"Conv3d_1a_7x7": unit(channels, 64, 7, 2), "Conv3d_2b_1x1": unit(64, 64), "Conv3d_2c_3x3": unit(64, 192, 3)})
    inputs = 192
    for block, (b0, b1a, b1b, b2a, b2b, b3b) in MIXED.items():
        units = unit(inputs, b0), unit(inputs, b1a), unit(b1a, b1b, 3), unit(inputs, b2a), unit(b2a, b2b, 3), unit(inputs, b3b)
        network[block] = nn.ModuleDict(dict(zip(BRANCHES, units, strict=True)))
        inputs = b0 + b1b + b2b + b3b
    network["logits"] = nn.Sequential(OrderedDict(conv3d=nn.Conv3d(inputs, classes, 1)))
    return network


def features(network: nn.ModuleDict, clips: Tensor, pool: int = 2) -> Tensor:
    """`(B, channels, T, H, W)` in -1..1 -> `(B, 1024)` for any T from 9, or more than `8 * (pool - 1)`, and H and W from 193."""
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
