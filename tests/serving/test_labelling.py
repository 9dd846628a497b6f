"""The thread that labels, and what it keeps: a clip once, and nothing for ever."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.corpus.manifest import Home
from pipeline.runs.packaging.reading import opened
from pipeline.runs.predict import Prediction, predict_files
from pipeline.serving import labelling
from pipeline.serving.labelling import Labeller
from pipeline.serving.spotting import KEPT_ANSWERS, Spotter
from pipeline.serving.uploads import Limits, Upload
from tests.checkout import PATIENCE
from tests.spotting.signs import Signs, made, toy_stages


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signs]:
    root = tmp_path_factory.mktemp("signs")
    with toy_stages(root):
        yield made(root, {"derived": "colour,centred"})


@contextmanager
def labelling_of(signs: Signs, cache: Path, *, keeps: bool = False) -> Iterator[Labeller]:
    with opened(signs.home, signs.runs["derived"]) as trained:
        limits = Limits(deadline_seconds=PATIENCE)
        labeller = Labeller(trained, Home(cache, signs.home.manifests), limits, device="cpu", keeps=keeps)
        try:
            yield labeller
        finally:
            labeller.close()


def labelled(labeller: Labeller, clips: list[Path], folder: Path) -> list[Prediction]:
    """What is said of copies of these clips, asked all at once."""

    async def all_at_once() -> list[Prediction]:
        uploads = [Upload(Path(shutil.copy(clip, folder / f"{number}{clip.stem}.mp4")), clip.name) for number, clip in enumerate(clips)]
        return await asyncio.gather(*map(labeller.labelled, uploads))

    return asyncio.run(all_at_once())


def test_clips_that_are_asked_together_are_labelled_as_each_alone_and_kept_as_long_as_it_is_said(signs: Signs, tmp_path: Path) -> None:
    clips = [clip for clip, _ in signs.clips()]
    alone = predict_files(signs.home, signs.runs["derived"], clips, device="cpu")
    with labelling_of(signs, tmp_path / "kept", keeps=True) as labeller:
        said = labelled(labeller, clips, tmp_path)
        assert [each.label for each in said] == [each.label for each in alone]
        for own, other in zip(said, alone, strict=True):
            assert dict(own.top) == pytest.approx(dict(other.top), abs=1e-5)
        assert (labeller.counts.clips, labeller.preparing.decoded) == (len(clips), len(clips))
    with labelling_of(signs, tmp_path / "kept", keeps=True) as again:
        (one,) = labelled(again, clips[:1], tmp_path)  # in a batch of another size, so to the last bits
        assert dict(one.top) == pytest.approx(dict(said[0].top), abs=1e-5)
        assert again.preparing.decoded == 0
    assert not list(tmp_path.glob("*.items"))


def test_a_cache_of_its_own_begins_anew_after_so_many_clips(signs: Signs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "KEPT_CLIPS", 2)
    (first, _), (second, _), *_ = signs.clips()
    with labelling_of(signs, tmp_path / "own") as labeller:
        (said,) = labelled(labeller, [first], tmp_path)
        assert labelled(labeller, [first], tmp_path)[0].top == said.top
        assert labeller.preparing.decoded == 1
        labelled(labeller, [second], tmp_path)
        (anew,) = labelled(labeller, [first], tmp_path)  # in a later turn of the thread, which began anew before
        assert (anew.top, labeller.preparing.decoded) == (said.top, 3)
        assert len(labeller.preparing.known) == 1


def test_a_batch_that_fails_costs_its_own_clips(signs: Signs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = signs.clips()[0][0]
    with labelling_of(signs, tmp_path / "own") as labeller:
        with monkeypatch.context() as patch:
            patch.setattr(labelling, "label", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                labelled(labeller, [clip], tmp_path)
        assert labelled(labeller, [clip], tmp_path)[0].label


def test_answers_about_videos_are_kept_by_content_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spotter, asked = Spotter(Home(tmp_path, tmp_path), tmp_path, "cpu"), list[str]()

    async def found(upload: Upload, cache: Path) -> dict[str, object]:
        asked.append(upload.name)
        return {"glosses": []}

    monkeypatch.setattr(spotter, "_found", found)

    async def spot() -> None:
        for number in (*range(KEPT_ANSWERS + 1), KEPT_ANSWERS, 0):
            (tmp_path / "video.mp4").write_text(str(number))
            await spotter.spot(Upload(tmp_path / "video.mp4", str(number)))

    asyncio.run(spot())
    assert asked == [*map(str, range(KEPT_ANSWERS + 1)), "0"]
    assert len(spotter.answers) == KEPT_ANSWERS
