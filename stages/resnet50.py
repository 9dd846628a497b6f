"""ResNet50 features of RGB frames, as in the LIS late-fusion system (matteocacioppo/LIS_Kaggle)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
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

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return evenly(length, self.max_frames)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for (image,) in frames:
            yield resized(image, self.resize)

    def load(self, device: str) -> Forward:
        import torch

        network = checkpoint.folded(checkpoint.initialised(_network, self.weights, self._state))
        network = network.to(device).to(memory_format=torch.channels_last)
        if self.output == "map":
            network.avgpool = torch.nn.Identity()
        mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)

        def forward(images: Tensor) -> Tensor:
            pixels = images.permute(0, 3, 1, 2).float().div(255)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
                rows: Tensor = network(((pixels - mean) / std).contiguous(memory_format=torch.channels_last))
            return rows.float() if self.output == "pool" else rows.reshape(-1, *self.row_shape).half()

        return forward

    def _state(self) -> Mapping[str, Tensor]:
        """The tensors of `weights` without the classifier."""
        state = _download(self.weights) if self.weights in self.checkpoints else checkpoint.read_checkpoint(self.weights)
        return {name: values for name, values in state.items() if not name.startswith("fc.")}


def _network() -> nn.Module:
    from torch import nn
    from torchvision.models import resnet50

    network: nn.Module = resnet50(weights=None)
    network.fc = nn.Identity()
    return network


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
