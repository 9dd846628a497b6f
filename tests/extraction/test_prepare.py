"""Stages that prepare one clip together: none can harm another's items, and the items of a clip exist whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus import media
from pipeline.corpus.media import stat_of
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.extraction.preparing.preparation import prepare_clip
from pipeline.types import Array, Extractor, Frame
from tests.video_files import write_clip


class Means(Extractor):
    """`(T, H, W, 3)` uint8 -> `(T, 1)` float64 means."""

    source: str = "rgb"
    times: int = 1

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return np.repeat(np.arange(length), self.times)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for (image,) in frames:
            yield image.mean(keepdims=True).reshape(1)


class Inverting(Means):
    """Changes the frames that it is given."""

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for (image,) in frames:
            np.subtract(255, image, out=image)
            yield image.mean(keepdims=True).reshape(1)


class Leaving(Means):
    """Leaves in the middle of a clip in a way of its own."""

    kind: str

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for count, (image,) in enumerate(frames):
            if count == 3:
                raise {kind.__name__: kind for kind in LEAVING}[self.kind]("enough")
            yield image.mean(keepdims=True).reshape(1)


class Mapping(Means):
    """Makes its items with `map`, whose function stops after some."""

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        left = iter(range(3))

        def item(frame: Frame) -> Array:
            return np.full(1, next(left) if self.times == 1 else 7)

        return map(item, frames)


class Counting(Means):
    """Makes its items by an iterator of its own, of every other frame."""

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        class Pairs(Iterator[Array]):
            def __next__(self) -> Array:
                return np.stack([next(frames)[0][0, 0], next(frames)[0][0, 0]])

        return Pairs()


class Choosing(Leaving):
    """Leaves before it has chosen its frames."""

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        raise {kind.__name__: kind for kind in LEAVING}[self.kind]("enough")


class Yielding(Means):
    value: Any

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for _ in frames:
            yield self.value


class Selecting(Means):
    wanted: Any

    def select(self, length: int, rate_hz: float) -> Any:
        return self.wanted


LEAVING: tuple[type[BaseException], ...] = (ValueError, StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit)


def prepared(folder: Path, *paths: Path, **stages: Extractor) -> Prepared:
    (folder / "spool").mkdir(exist_ok=True)
    return prepare_clip(Job(0, "clip", stages, folder / "spool", stat_of(paths), 60.0, paths))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", 20)


@pytest.mark.parametrize("kind", [kind.__name__ for kind in LEAVING])
@pytest.mark.parametrize("leaving", [Leaving, Choosing])
def test_whatever_a_stage_raises_is_its_failure_and_leaves_no_items(leaving: type[Leaving], kind: str, clip: Path, tmp_path: Path) -> None:
    found = prepared(tmp_path, clip, leaving=leaving(kind=kind), means=Means())
    assert list(found.items) == ["means"]
    assert len(found.items["means"]) == 20
    reason = found.failures["leaving"]
    assert reason == (
        "RuntimeError: generator raised StopIteration" if (kind, leaving) == ("StopIteration", Leaving) else f"{kind}: enough"
    )


def test_a_mistake_that_looks_like_the_end_of_the_items_is_none(clip: Path, tmp_path: Path) -> None:
    found = prepared(tmp_path, clip, stopping=Mapping(), mapping=Mapping(times=2), counting=Counting())
    assert found.failures == {"stopping": "RuntimeError: prepare raised StopIteration"}
    assert (len(found.items["mapping"]), len(found.items["counting"])) == (40, 10)


@pytest.mark.parametrize("times", [1, 3])
def test_a_stage_cannot_change_the_frames_that_others_are_given(times: int, clip: Path, tmp_path: Path) -> None:
    alone = prepared(tmp_path, clip, means=Means(times=times)).items["means"][:]
    found = prepared(tmp_path, clip, inverting=Inverting(times=times), means=Means(times=times))
    np.testing.assert_array_equal(found.items["means"][:], alone)
    assert found.failures == {"inverting": "ValueError: output array is read-only"}


def test_what_is_no_array_of_numbers_is_no_item(clip: Path, tmp_path: Path) -> None:
    found = prepared(tmp_path, clip, nothing=Yielding(value=None), words=Yielding(value=["a"]), numbers=Yielding(value=[1, 2]))
    assert found.failures == {
        "nothing": "nothing prepared items of object; expected numbers",
        "words": "words prepared items of <U1; expected numbers",
    }
    assert found.items["numbers"][:2].tolist() == [[1, 2], [1, 2]]


def test_a_selection_of_what_is_no_index_is_that_stages_failure_only(clip: Path, tmp_path: Path) -> None:
    stages = {"half": Selecting(wanted=[0.5, 1.0]), "none": Selecting(wanted=None), "falling": Selecting(wanted=np.array([5, 4], np.uint8))}
    found = prepared(tmp_path, clip, means=Means(), empty=Selecting(wanted=[]), **stages)
    assert found.failures == {
        "half": "its selection is of float64; expected whole numbers",
        "none": "TypeError: len() of unsized object",
        "falling": "its selection 5..4 is not ascending within 20 frames",
    }
    assert (len(found.items["means"]), len(found.items["empty"])) == (20, 0)


def test_a_clip_of_which_a_file_cannot_be_read_fails_though_no_stage_wants_that_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    for number in range(5):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"frame{number}.png")
    whole = prepared(tmp_path, tmp_path / "frame*.png", first=Selecting(wanted=[0]))
    assert (len(whole.content), whole.failures) == (32, {})

    def refused(path: Path, *arguments: Any, **options: Any) -> Any:
        if Path(path).name == "frame3.png":
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *arguments, **options)

    monkeypatch.setattr(media, "open", refused, raising=False)
    found = prepared(tmp_path, tmp_path / "frame*.png", first=Selecting(wanted=[0]))
    assert found.items == {}
    assert found.failures == {"first": "frame3.png may not be read (permissions)"}
