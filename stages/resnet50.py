"""ResNet50 features of RGB frames, as in the LIS late-fusion system (matteocacioppo/LIS_Kaggle)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipeline.cache import weights as checkpoint
from pipeline.decoding.decode import resized
from pipeline.errors import UserError
from pipeline.types import Array, Extractor, Forward, Frame, evenly

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ResNet50(Extractor):
    """`(T, H, W, 3)` uint8 frames -> `(T, 2048)` float32, one vector per frame: torchvision's ResNet50 without `fc`.

    Frames: all of them up to `max_frames`, else `linspace(0, n-1, max_frames)` truncated. Resized without keeping
    the aspect (bilinear, antialiased, on uint8), then ImageNet mean and deviation. Rows do not depend on the
    other clips of a batch; `precision="bfloat16"` computes under autocast and still gives float32 rows.
    `output="map"` leaves the average pool out as well: `(T, 2048, 7, 7)` float16, the map that the micro-gesture system
    (freimisi/micro-gesture-classification) trains its head on; a `resize` of other than 224 gives `ceil(size / 32)` places.
    """

    item_axes: ClassVar[str] = "HWC"
    after_items: ClassVar[tuple[str, ...]] = ("weights", "precision", "output")
    checkpoints: ClassVar[Mapping[str, str]] = {"IMAGENET1K_V1": "0676ba61", "IMAGENET1K_V2": "11ad3fa6"}

    source: str = "rgb"
    weights: str = "IMAGENET1K_V2"
    max_frames: PositiveInt = 30
    resize: tuple[PositiveInt, PositiveInt] = (224, 224)
    precision: Literal["float32", "bfloat16"] = "float32"
    output: Literal["pool", "map"] = "pool"

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (2048,) if self.output == "pool" else (2048, *(-(-side // 32) for side in self.resize))

    @property
    def dtype(self) -> str:
        return "float32" if self.output == "pool" else "float16"

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (*self.resize, 3)

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return evenly(length, self.max_frames)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for (image,) in frames:
            yield resized(image, self.resize)

    def network(self) -> nn.Module:
        return checkpoint.initialised(partial(_network, self), self.weights, self._state)

    def load(self, device: str) -> Forward:
        import torch

        network = checkpoint.folded(self.network()).to(device).to(memory_format=torch.channels_last)
        return network if self.output == "pool" else lambda images: network(images).half()

    def _state(self) -> Mapping[str, Tensor]:
        """The tensors of `weights` without the classifier."""
        state = _download(self.weights) if self.weights in self.checkpoints else checkpoint.read_checkpoint(self.weights)
        return {name: values for name, values in state.items() if not name.startswith("fc.")}


def _network(stage: ResNet50) -> nn.Module:
    """torchvision's network as its constructor draws it, between pixels and rows."""
    import torch
    from torch import nn
    from torchvision.models import resnet

    class ResNet(resnet.ResNet):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(resnet.Bottleneck, [3, 4, 6, 3])
            self.fc = nn.Identity()
            if stage.output == "map":
                self.avgpool = nn.Identity()
            self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

        def forward(self, images: Tensor) -> Tensor:
            pixels = (images.permute(0, 3, 1, 2).float().div(255) - self.mean) / self.std
            with checkpoint.in_precision(stage.precision, images.device):
                rows: Tensor = super().forward(pixels.contiguous(memory_format=torch.channels_last))
            return rows.float().reshape(-1, *stage.row_shape)

    return ResNet()


def _download(name: str) -> Mapping[str, Tensor]:
    """torchvision's own download, checked against the hash in its URL, as is a file that lies there already."""
    from torch import hub
    from torchvision.models import ResNet50_Weights

    published = ResNet50_Weights[name]
    file = Path(hub.get_dir(), "checkpoints", published.url.rsplit("/", 1)[-1])
    if file.exists() and not hashlib.sha256(file.read_bytes()).hexdigest().startswith(ResNet50.checkpoints[name]):
        raise UserError(f"{file} is not what torchvision publishes as {name}: delete it, or use --set weights={file}")
    try:
        state: Mapping[str, Tensor] = published.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"weights {name} of resnet50 cannot be downloaded here ({error}): put {file.name} into {file.parent}, "
            f"or use --set weights=FILE, or --set weights=random:0 for seeded random ones"
        ) from error
    return state


stage: type[Extractor] = ResNet50
