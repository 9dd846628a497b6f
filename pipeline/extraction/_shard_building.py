"""One stage on its way from items to shards: batches fill across clips, the device computes, a shard closes, a thread writes it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipeline import registry
from pipeline.cache import shards
from pipeline.cache.identity import refuse_changed
from pipeline.cache.shards import SHARD_BYTES, SHARD_CLIPS, Failure, Marker, Row
from pipeline.cache.stage import Stage
from pipeline.errors import ClipError, UserError
from pipeline.extraction.forward_passes import DEVICE_BATCH, IN_FLIGHT, Landed, launched, own_mistakes
from pipeline.extraction.preparing.jobs import Items, Prepared
from pipeline.types import Array, Forward

SHARD_SECONDS = 60.0


@dataclass
class _Clip:
    """A clip whose rows are on their way; `missing` of them are still to be computed."""

    order: int
    id: str
    prepared: Prepared
    items: Items
    rows: Array
    missing: int


_Pending: TypeAlias = tuple[_Clip, int, slice]
"""A clip, one of its rows, and the items of that row."""


def _of(batch: Sequence[_Pending]) -> str:
    """`compute 'a'`, or of several clips `compute 'a', 'b' or 'c'`."""
    *others, last = dict.fromkeys(repr(clip.id) for clip, _, _ in batch)
    return f"compute {', '.join(others)} or {last}" if others else f"compute {last}"


@dataclass
class Lane:
    """Takes the prepared clips of one stage, in any order, and leaves immutable shards with their markers in `folder`."""

    stage: Stage
    folder: Path
    forward: Forward | None
    device: str
    store: str
    made: Mapping[str, Any]
    writer: ThreadPoolExecutor
    sealed: Callable[[Collection[str]], None]
    """Is told of the clips of each finished shard, in the writer's thread."""
    clips: list[_Clip] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    pending: deque[_Pending] = field(default_factory=deque)
    flying: deque[tuple[list[_Pending], Landed]] = field(default_factory=deque)
    written: deque[Future[None]] = field(default_factory=deque)
    size: int = 0
    """Rows of a pass."""
    opened: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.size = DEVICE_BATCH[self.device]

    def add(self, order: int, clip_id: str, prepared: Prepared) -> None:
        """One clip's items; full batches are computed at once. Raises ClipError where the stage takes no such clip."""
        self.opened = self.opened or time.monotonic()
        items = prepared.items[self.stage.name]
        windows = self._windows(clip_id, len(items)) if self.forward else []
        shape, dtype = self.stage.extractor.row_shape, self.stage.extractor.dtype
        if not self.forward and len(items):
            self._check(items.shape)
        rows = np.empty((len(windows), *shape), dtype) if self.forward else items[:].astype(dtype, copy=False).reshape(len(items), *shape)
        clip = _Clip(order, clip_id, prepared, items, rows, len(windows))
        self.clips.append(clip)
        if not windows:
            self._drop_items(clip)
        self.pending.extend((clip, number, window) for number, window in enumerate(windows))
        while len(self.pending) >= self.size:
            self._compute()

    def fail(self, failure: Failure) -> None:
        """A clip of which this stage gets nothing."""
        self.opened = self.opened or time.monotonic()
        self.failures.append(failure)

    def close_if_full(self) -> None:
        """Close the shard that has SHARD_CLIPS, failures among them, or SHARD_BYTES, or was begun SHARD_SECONDS ago."""
        size = sum(clip.rows.nbytes for clip in self.clips)
        age = time.monotonic() - self.opened if self.opened else 0.0
        if len(self.clips) + len(self.failures) >= SHARD_CLIPS or size >= SHARD_BYTES or age > SHARD_SECONDS:
            self.close()

    def close(self) -> None:
        """Compute what is pending and write the shard in the background; at most two writes wait."""
        while self.pending:
            self._compute()
        self._land(0)
        self.salvage()
        while len(self.written) > 2:
            self.written.popleft().result()

    def salvage(self) -> None:
        """Write the clips that are whole and drop the others."""
        whole = [clip for clip in self.clips if not clip.missing]
        failures = self.failures
        self.clips, self.failures, self.opened = [], [], 0.0
        self.pending.clear()
        self.flying.clear()
        if whole or failures:
            now = time.monotonic()
            seconds, self.since = now - self.since, now
            self.written.append(self.writer.submit(self._write, whole, failures, seconds))

    def rescue(self) -> None:
        """Write the clips that are whole while another thread is at a pass: the last that this process does."""
        wait(self.written)
        whole = [clip for clip in self.clips if not clip.missing]
        if whole or self.failures:
            self._write(whole, self.failures, time.monotonic() - self.since)

    def settle(self) -> None:
        """Wait for every write, whatever becomes of it."""
        wait(self.written)

    def finish(self) -> None:
        """Wait for every write; raises what the disk refused."""
        while self.written:
            self.written.popleft().result()

    def _compute(self) -> None:
        """One forward pass over rows of as many clips as fit; it is waited for once the device has another."""
        import torch

        assert self.forward is not None
        batch, inputs = self._next()
        try:
            with own_mistakes(self.stage, _of(batch), torch.OutOfMemoryError):
                landed = launched(self.forward, np.stack(inputs), self.device, self.size)
            self.flying.append((batch, landed))
        except torch.OutOfMemoryError as error:
            self.pending.extendleft(reversed(batch))
            self.size //= 2
            if not self.size:
                raise UserError(
                    f"stage {self.stage.name!r}: {self.device} has no memory for one row; free some, or use --device cpu"
                ) from error
            return
        self._land(IN_FLIGHT[self.device])

    def _land(self, left: int) -> None:
        """Give the rows of all passes but the last `left` to their clips."""
        while len(self.flying) > left:
            batch, landed = self.flying.popleft()
            with own_mistakes(self.stage, _of(batch)):
                rows = landed()
            self._check(rows.shape)
            if len(rows) != len(batch):
                raise UserError(f"stage {self.stage.name!r} makes {len(rows)} rows of {len(batch)}; correct {self.stage.file}")
            for (clip, number, _), row in zip(batch, rows, strict=True):
                clip.rows[number] = row
                clip.missing -= 1
                if not clip.missing:
                    self._drop_items(clip)

    def _windows(self, clip_id: str, items: int) -> Sequence[slice]:
        """The items of each row of a clip, as the stage says it; raises ClipError where it takes no such clip."""
        with own_mistakes(self.stage, f"compute {clip_id!r}", ClipError):
            windows = self.stage.extractor.rows(items)
            for window in windows:
                if not 0 <= window.start < window.stop <= items:
                    raise ValueError(f"a row of the items {window.start}:{window.stop}, where there are {items}")
            return windows

    def _next(self) -> tuple[list[_Pending], list[Array]]:
        """The rows of the next pass, all of one shape, and what they are computed from."""
        batch, inputs = list[_Pending](), list[Array]()
        while self.pending and len(batch) < self.size:
            values = self._input(self.pending[0])
            if inputs and values.shape != inputs[0].shape:
                break
            batch.append(self.pending.popleft())
            inputs.append(values)
        return batch, inputs

    def _check(self, shape: tuple[int, ...]) -> None:
        """What a stage makes must have the shape that it declares: numpy would stretch a wrong one without a word."""
        if shape[1:] != self.stage.extractor.row_shape:
            raise UserError(
                f"stage {self.stage.name!r} declares rows of {self.stage.extractor.row_shape} and makes {shape[1:]}; "
                f"correct row_shape or what {self.stage.file} computes"
            )

    def _drop_items(self, clip: _Clip) -> None:
        clip.items.path.unlink(missing_ok=True)

    @staticmethod
    def _input(part: _Pending) -> Array:
        clip, _, window = part
        values = clip.items[window]
        return values[0] if len(values) == 1 else values

    def _write(self, clips: list[_Clip], failures: list[Failure], seconds: float) -> None:
        extractor, start, rows = self.stage.extractor, 0, []
        refuse_changed(self.stage.name, extractor, self.stage.fingerprint)  # what a forward pass imported
        for clip in clips:
            found = clip.prepared
            rows.append(
                Row(
                    id=clip.id,
                    start=start,
                    length=len(clip.rows),
                    source_length=found.source_length,
                    rate_hz=found.rate_hz,
                    content=found.content,
                    stat=found.stat.token,
                    size=found.stat.size,
                    decoder=found.decoder,
                    tracks=found.tracks,
                    checksum=shards.checksum(clip.rows),
                )
            )
            start += len(clip.rows)
        name = shards.new_name(min((clip.order for clip in clips), default=0))
        file = name + registry.create("store", self.store).suffix if clips else None
        marker = Marker(name, file, self.store, extractor.dtype, extractor.row_shape, tuple(rows), tuple(failures))
        values = shards.joined([clip.rows for clip in clips], extractor.row_shape, extractor.dtype)
        shards.write_shard(self.folder, marker, values, {**self.made, "seconds": round(seconds, 3)})
        self.sealed([*(row.id for row in rows), *(failure.id for failure in failures)])
