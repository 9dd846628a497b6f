"""One clip of the demo corpus as files: a video, three radar videos and a sensor track of one movement."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets._drawing.body import CAMERA_HZ, Motion, perform
from pipeline.datasets._drawing.glosses import GLOSSES
from pipeline.datasets._drawing.signers import SIGNERS, Signer, clip_name, generator

if TYPE_CHECKING:
    from av import VideoFrame

RADARS = 3
CONTAINERS = {".mkv": "matroska", ".mp4": "mp4"}
CAMERA_QUALITY, RADAR_QUALITY = "24", "26"
"""Constant rate factors of H.264: 18 cannot be told from the source, 28 is visibly coarse."""


def clip_media(gloss: str, signer: str, repetition: int) -> dict[str, tuple[str, ...]]:
    """The files of a clip, relative to the corpus root."""
    stem = f"{gloss}/{clip_name(signer, repetition)}"
    radar = tuple(f"{stem}_RDM{number + 1}.mp4" for number in range(RADARS))
    return {"rgb": (f"{stem}.mkv",), "radar": radar, "inertial": (f"{stem}_inertial.npy",)}


def clip_motion(gloss: str, signer: str, repetition: int) -> Motion:
    """The movement that all media of the clip show."""
    return perform(GLOSSES[gloss], SIGNERS[signer], generator(gloss, clip_name(signer, repetition), "motion"))


def make_clip(root: Path, gloss: str, signer: str, repetition: int) -> None:
    """Writes the files of one clip that are not below `root`; each appears whole or not at all."""
    media = clip_media(gloss, signer, repetition)
    wanted = {modality: paths for modality, paths in media.items() if not all((root / path).is_file() for path in paths)}
    if not wanted:
        return
    (root / gloss).mkdir(parents=True, exist_ok=True)
    motion = clip_motion(gloss, signer, repetition)
    for modality, paths in wanted.items():
        rng = generator(gloss, clip_name(signer, repetition), modality)
        _WRITERS[modality]([root / path for path in paths], motion, SIGNERS[signer], rng)


def _write_rgb(paths: list[Path], motion: Motion, signer: Signer, rng: np.random.Generator) -> None:
    import cv2

    from pipeline.datasets._drawing.canvas import HEIGHT, WIDTH
    from pipeline.datasets._drawing.figure import pictures

    cv2.setNumThreads(1)  # a process draws on each core
    _write_video(paths[0], pictures(motion, signer, rng), (HEIGHT, WIDTH), CAMERA_HZ, CAMERA_QUALITY)


def _write_radar(paths: list[Path], motion: Motion, signer: Signer, rng: np.random.Generator) -> None:
    from pipeline.datasets._drawing.radar import RADAR_HZ, maps

    for path, frames in zip(paths, maps(motion, signer, rng), strict=True):
        if not path.is_file():
            _write_video(path, frames, frames.shape[1:], RADAR_HZ, RADAR_QUALITY)


def _write_inertial(paths: list[Path], motion: Motion, _: Signer, rng: np.random.Generator) -> None:
    from pipeline.datasets._drawing.inertial import track

    part = _part(paths[0])
    with part.open("wb") as file:
        np.save(file, track(motion, rng), allow_pickle=False)
    os.replace(part, paths[0])


def _write_video(path: Path, frames: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], rate_hz: int, quality: str) -> None:
    """H.264 by one thread and without dates or random numbers in the container, so that equal frames give equal files."""
    import av

    part = _part(path)
    with av.open(str(part), "w", format=CONTAINERS[path.suffix], options={"fflags": "bitexact"}) as container:
        stream = container.add_stream("libx264", rate=rate_hz, options={"preset": "ultrafast", "crf": quality, "threads": "1"})
        stream.height, stream.width = shape[:2]
        stream.pix_fmt = "yuv420p"
        for values in frames:
            container.mux(stream.encode(_video_frame(values)))
        container.mux(stream.encode())
    os.replace(part, path)


def _video_frame(values: NDArray[np.uint8]) -> VideoFrame:
    """A picture as H.264 takes it; OpenCV makes YUV of RGB in a fifth of the time that FFmpeg takes."""
    import av
    import cv2

    if values.ndim == 2:
        return av.VideoFrame.from_ndarray(values, format="gray")
    return av.VideoFrame.from_ndarray(np.asarray(cv2.cvtColor(values, cv2.COLOR_RGB2YUV_I420), np.uint8), format="yuv420p")


def _part(path: Path) -> Path:
    """Where a file is written before it gets its name: beside it, so that the renaming is one step."""
    return path.with_name(f".{path.name}.part")


_WRITERS: Mapping[str, Callable[[list[Path], Motion, Signer, np.random.Generator], None]] = {
    "rgb": _write_rgb,
    "radar": _write_radar,
    "inertial": _write_inertial,
}
