"""Rows of padded clips: which are a clip's own, fewer of them, and what they are on the whole. What padding holds is never read."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.data.batch import is_traced, shown


def real(lengths: Tensor, steps: int) -> Tensor:
    """`(B, steps)`: whether a row is a clip's own."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def thinned(rows: Tensor, lengths: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """`(B, T, D)` -> `(B, min(T, most), D)` and lengths: of a longer clip the rows `i * (length - 1) // (most - 1)`.

    Traced, which is to hold for any T, always `most` rows: those beyond a clip's length repeat its last.
    """
    if rows.shape[1] <= most and not is_traced():
        return rows, lengths
    steps = torch.arange(most, device=rows.device)
    spread = steps * (lengths[:, None] - 1).clamp(min=0) // max(most - 1, 1)
    last = (lengths - 1).clamp(min=0)[:, None]
    places = torch.where(lengths[:, None] > most, spread, torch.minimum(steps, last) if is_traced() else steps)
    clips = torch.arange(rows.shape[0], device=rows.device)[:, None]
    return rows[clips, places], lengths.clamp(max=most)


def averaged(rows: Tensor, lengths: Tensor, most: int, told_by: Tensor) -> tuple[Tensor, Tensor]:
    """`(B, T, D)` -> `(B, min(T, most), D)` and lengths: of a longer clip the means of rows `i * length // most` up to the next.

    A value is the mean of the rows that show it (`told_by` as `shown` takes it), 0 where none does. Traced, always `most` rows.
    """
    if rows.shape[1] <= most and not is_traced():
        return rows, lengths
    first = torch.arange(most, device=rows.device)
    is_long, ends = lengths[:, None] > most, torch.stack([first, first + 1])[:, None]
    begin, end = torch.where(is_long, ends * lengths[:, None] // most, ends)
    steps = torch.arange(rows.shape[1], device=rows.device)
    own = (steps < lengths[:, None])[:, None]
    within = ((steps >= begin[:, :, None]) & (steps < end[:, :, None]) & own).float()
    seen = shown_rows(rows, lengths, told_by)
    return within @ torch.where(seen, rows, 0) / (within @ seen.float()).clamp(min=1), lengths.clamp(max=most)


def shown_rows(rows: Tensor, lengths: Tensor, told_by: Tensor) -> Tensor:
    """`(B, T, D)`: whether a value is seen, in a clip's own rows."""
    return shown(rows, told_by) & real(lengths, rows.shape[1])[:, :, None]


def moments(rows: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """`(B, 1, D)` mean of the values that are `counted`, `(B, T, D)` or `(B, T, 1)`, and their deviation.

    A thousandth of the clip's mean deviation is added to each, so that values that hardly move are kept small by it.
    """
    steps = counted.sum(1, keepdim=True).clamp(min=1)
    mean = torch.where(counted, rows, 0).sum(1, keepdim=True) / steps
    centred = (rows - mean).where(counted, 0)
    deviation = ((centred**2).sum(1, keepdim=True) / steps).clamp(min=1e-30).sqrt()  # a root of 0 has no slope to explain by
    return mean, deviation + 1e-3 * deviation.mean(2, keepdim=True) + 1e-6


def within_clips(rows: Tensor, lengths: Tensor) -> Tensor:
    """`(B, T, D)` rows, each value less its clip's mean and by its deviation in the clip: what moves counts, not what is worn.

    Padding is zero.
    """
    own = real(lengths, rows.shape[1])[:, :, None]
    mean, deviation = moments(rows, own)
    return (rows - mean).where(own, 0) / deviation


def levels(rows: Tensor, lengths: Tensor, told_by: Tensor) -> tuple[Tensor, Tensor]:
    """`(B, 2 * D)`: each value's mean in the rows that show it, then the logarithm of its deviation; and where any row shows it."""
    seen = shown_rows(rows, lengths, told_by)
    mean, deviation = moments(rows, seen)
    return torch.cat([mean, deviation.log()], 2)[:, 0], seen.any(1).repeat(1, 2)
