"""The invented signers of the demo corpus: how each looks, stands before the camera and moves."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, TypeAlias

import numpy as np

from pipeline.types import Split

Colour: TypeAlias = tuple[int, int, int]
Hair: TypeAlias = Literal["short", "long", "bun", "curly", "cropped"]
CORPUS_SEED = 20240601
REPETITIONS = 3


@dataclass(frozen=True, slots=True)
class Look:
    """Colours (RGB), hair, sleeves and the wall behind: what a camera sees of a signer."""

    skin: Colour
    lips: Colour
    hair: Colour
    style: Hair
    cloth: Colour
    long_sleeves: bool
    stripes: bool
    wall: Colour
    furniture: Colour


@dataclass(frozen=True, slots=True)
class Signer:
    """A person: `size` scales the bones, `build` the widths, `tempo` the durations, `amplitude` the movements, `hold` in seconds.
    `echo` is how much of a radar's wave comes back, in dB over the first signer's.

    `zoom` and `shift` (pixels of the 640x480 picture, right and down) are the camera's.
    """

    name: str
    split: Split
    look: Look
    size: float
    build: float
    tempo: float
    amplitude: float
    hold: float
    echo: float
    zoom: float
    shift: tuple[float, float]


_LOOKS = (  # one studio, lit a little differently each day, and dark clothes, as signers are asked to wear: hands must stand out
    Look((224, 178, 150), (178, 92, 88), (74, 50, 34), "short", (38, 54, 92), True, False, (196, 198, 200), (142, 132, 118)),
    Look((141, 94, 66), (120, 62, 54), (28, 22, 20), "curly", (34, 74, 78), False, False, (198, 196, 192), (126, 134, 136)),
    Look((238, 198, 172), (196, 100, 100), (150, 104, 56), "long", (84, 40, 58), True, True, (194, 198, 196), (128, 138, 124)),
    Look((190, 138, 102), (156, 80, 72), (40, 32, 30), "bun", (44, 74, 58), False, False, (198, 198, 196), (138, 124, 118)),
    Look((210, 160, 128), (164, 84, 78), (84, 78, 76), "cropped", (62, 58, 70), True, False, (195, 197, 201), (122, 128, 142)),
)
SIGNERS = {
    signer.name: signer
    for signer in (
        Signer("signer1", "train", _LOOKS[0], 1.00, 1.00, 1.00, 1.00, 0.10, 0.0, 1.00, (0.0, 0.0)),
        Signer("signer2", "train", _LOOKS[1], 1.04, 1.10, 0.90, 1.08, 0.06, 1.2, 0.97, (14.0, 6.0)),
        Signer("signer3", "train", _LOOKS[2], 0.95, 0.92, 1.12, 0.92, 0.16, -1.0, 1.05, (-16.0, 4.0)),
        Signer("signer4", "val", _LOOKS[3], 0.97, 0.96, 1.06, 1.04, 0.12, 0.6, 1.02, (8.0, -4.0)),
        Signer("signer5", "test", _LOOKS[4], 1.02, 1.05, 0.96, 0.96, 0.08, -0.6, 0.99, (-8.0, 8.0)),
    )
}


def clip_name(signer: str, repetition: int) -> str:
    """`signer2_rep1`: the name shared by the files of a clip; repetitions count from 1."""
    return f"{signer}_rep{repetition}"


def generator(gloss: str, clip: str, purpose: str) -> np.random.Generator:
    """The random numbers of one purpose in one clip, whatever else is made before or beside it."""
    digest = sha256(f"{CORPUS_SEED}/{gloss}/{clip}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
