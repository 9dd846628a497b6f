"""Grad-CAM (Selvaraju et al., ICCV 2017): where in its pictures a stage's network sees what speaks for a label.

What the label gains by the rows is known from the model behind; here it is followed through the network of the stage to its last maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.errors import ClipError
from pipeline.types import Array, Extractor

AT_ONCE = 8


def heat(extractor: Extractor, items: Array, slopes: Tensor) -> Array:
    """`(N, R, H, W)` float32 of `(N, *item_shape)` items, R pictures side by side in each, at 0 or more, the hottest place of all 1.

    `slopes` are those of the `(T, *row_shape)` rows that these items make. A picture in several windows has the mean of these. Raises
    ClipError where the items make another number of rows.
    """
    places = extractor.rows(len(items))
    if len(places) != len(slopes):
        raise ClipError(f"{len(slopes)} rows are cached, and its pictures make {len(places)}")
    network = extractor.network().eval().requires_grad_(False)
    is_single = places[0].stop - places[0].start == 1
    layers = last_maps(network, _stacked(items, places[:1]))
    found, counts = np.zeros((len(items), *_pictures(extractor)), np.float32), np.zeros((len(items), 1, 1, 1), np.float32)
    for first in range(0, len(places), AT_ONCE if is_single else 1):
        part = places[first : first + (AT_ONCE if is_single else 1)]
        maps = _maps(network, layers, _stacked(items, part), slopes[first : first + len(part)])
        for place, frames in zip(part, _shown(maps, extractor, place=part[0]), strict=True):
            found[place] += frames
            counts[place] += 1
    found /= np.maximum(counts, 1)
    return np.asarray(found / (found.max(initial=0) or 1), np.float32)


def _pictures(extractor: Extractor) -> tuple[int, int, int]:
    """How many pictures are side by side in an item, their height and width."""
    shape, axes = extractor.item_shape, extractor.item_axes
    return (shape[0] if axes == "CHW" else 1), shape[axes.index("H")], shape[axes.index("W")]


def _stacked(items: Array, places: Sequence[slice]) -> Tensor:
    """As the network takes them: single items, or windows with an axis of their own."""
    is_single = places[0].stop - places[0].start == 1
    return torch.from_numpy(np.stack([items[place.start] if is_single else items[place] for place in places]))


def _maps(network: nn.Module, layers: Sequence[nn.Module], items: Tensor, slopes: Tensor) -> Tensor:
    """`(B, [T,] h, w)` or `(B * R, h, w)`: the maps that layers make, each weighted by the mean of its slope, summed; no less than 0."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, made: Tensor) -> Tensor:
        kept.append(made.detach().requires_grad_())
        return kept[-1]

    hooks = [module.register_forward_hook(keep) for module in layers]
    try:
        rows = network(items)
    finally:
        for hook in hooks:
            hook.remove()
    grads = torch.autograd.grad((rows * slopes).sum(), kept)
    weighted = [(made * grad.mean(tuple(range(2, grad.ndim)), keepdim=True)).sum(1) for made, grad in zip(kept, grads, strict=True)]
    return torch.stack(weighted).sum(0).clamp(min=0).detach()


def last_maps(network: nn.Module, items: Tensor) -> list[nn.Module]:
    """What makes the last maps before they are pooled: one module, or the branches of a block that are put side by side."""
    fired: dict[nn.Module, int] = {}
    read: list[tuple[nn.Module, int]] = []
    alive: list[Tensor] = []

    def note(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        alive.append(made)  # an address that is free again would be another tensor's
        read.extend((module, id(each)) for each in given)
        if isinstance(made, Tensor) and made.ndim >= 4 and made.shape[-1] > 1:
            fired[module] = id(made)

    hooks = [module.register_forward_hook(note) for module in network.modules() if module is not network]
    try:
        with torch.inference_mode():
            network(items)
    finally:
        for hook in hooks:
            hook.remove()
    last = next(reversed(fired))
    block = next(child for child in network.children() if any(module is last for module in child.modules()))
    if block in fired:
        return [block]
    others = {child: {made for module, made in read if module not in set(child.modules())} for child in block.children()}
    return [child for child in block.children() if child in fired and fired[child] not in others[child]]


def _shown(maps: Tensor, extractor: Extractor, place: slice) -> Array:
    """`(B, frames of a window, R, H, W)`: maps as large as the pictures of an item."""
    pictures, *size = _pictures(extractor)
    if maps.ndim == 4:
        whole = interpolate(maps[:, None], (place.stop - place.start, *size), mode="trilinear", align_corners=False)
        return np.asarray(whole.permute(0, 2, 1, 3, 4))
    large = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    return np.asarray(large.reshape(-1, 1, pictures, *size))


def item_pictures(extractor: Extractor, items: Array) -> Array:
    """`(N, R, H, W, 3)` uint8 of items that are pictures."""
    if extractor.item_axes == "HWC":
        return np.asarray(items[:, None])
    return np.repeat(items[..., None], 3, -1)


def has_pictures(extractor: Extractor) -> bool:
    return extractor.item_axes in ("HWC", "CHW")
