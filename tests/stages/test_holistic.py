"""Holistic rows are those of MediaPipe called directly, in any order and company; parts keep their places."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline import registry
from pipeline.cache import open_stage
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.corpus.media import Stat
from pipeline.datasets._drawing.clip import make_clip
from pipeline.errors import UserError
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.preparing.jobs import Job
from pipeline.extraction.preparing.preparation import prepare_clip
from pipeline.extraction.progress import Progress
from pipeline.types import Array, Extractor
from stages import holistic
from stages.holistic import PARTS, blocks, seen
from tests.video_files import write_clip

CHECKOUT = Path(__file__).resolve().parents[2]
FRAMES = 6
CLIPS = ("HELLO/signer1_rep1", "RAIN/signer3_rep2")


def stage(**fields: Any) -> Extractor:
    made: Extractor = registry.create("stage", "holistic", fields)
    return made


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn clips, and one of three frames without anybody."""
    root = tmp_path_factory.mktemp("signers")
    make_clip(root, "HELLO", "signer1", 1)
    make_clip(root, "RAIN", "signer3", 2)
    for leftover in [*root.rglob("*_RDM*.mp4"), *root.rglob("*.npy")]:
        leftover.unlink()
    write_clip(root / "EMPTY/short.mkv", 3, size=(160, 120))
    return root


def images(path: Path) -> list[Array]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def directly(path: Path, count: int) -> Array:
    """What the source does with one clip: pick frames, one tracker, landmarks in a row."""
    from mediapipe.python.solutions.holistic import Holistic

    frames, rows = images(path), []
    with Holistic(min_detection_confidence=0.5, min_tracking_confidence=0.5) as tracker:
        for i in range(count):
            found = tracker.process(frames[round(i * (len(frames) - 1) / (count - 1))])
            pose, face, left, right = np.zeros((33, 4)), np.zeros((468, 3)), np.zeros((21, 3)), np.zeros((21, 3))
            parts = found.pose_landmarks, found.face_landmarks, found.left_hand_landmarks, found.right_hand_landmarks
            for block, marks in zip((pose, face, left, right), parts, strict=True):
                for j, point in enumerate(marks.landmark if marks else ()):
                    block[j] = (point.x, point.y, point.z, point.visibility)[: block.shape[1]]
            rows.append(np.concatenate([block.ravel() for block in (pose, face, left, right)]))
    return np.stack(rows).astype(np.float32)


@pytest.fixture(scope="module")
def expected(corpus: Path) -> dict[str, Array]:
    holistic._imported()
    with pytest.warns(UserWarning, match="GetPrototype"):
        return {clip: directly(corpus / f"{clip}.mkv", FRAMES) for clip in (*CLIPS, "EMPTY/short")}


def test_rows_of_the_engine_are_mediapipes_in_two_processes_and_in_any_order(
    corpus: Path, expected: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.machine.cores", lambda: 2)
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    table = manifest.bind(home, "drawn", corpus="folder", root=corpus)
    alone = configure(home, table, "holistic", now={"frames": FRAMES})
    extract(home, table, [alone], Options(only=[CLIPS[1]]), Progress())
    outcome = extract(home, table, [alone], Options(), Progress())
    assert (outcome.extracted, outcome.failed) == ({"holistic": 2}, {})
    features = open_stage("drawn", "holistic", cache=home.cache, manifests=home.manifests)
    assert {clip: features[clip].tobytes() for clip in features} == {clip: rows.tobytes() for clip, rows in expected.items()}
    assert features[CLIPS[0]].shape == (FRAMES, 1662)


def test_rows_do_not_change_beside_another_holistic_of_the_same_clip(corpus: Path, expected: dict[str, Array], tmp_path: Path) -> None:
    hands = stage(frames=FRAMES, include="pose,hands")
    job = Job(0, "clip", {"one": stage(frames=FRAMES), "two": hands}, tmp_path, Stat(0, 0), 60.0, (corpus / f"{CLIPS[0]}.mkv",))
    found = prepare_clip(job)
    assert found.failures == {}
    rows = expected[CLIPS[0]]
    np.testing.assert_array_equal(found.items["one"][:], rows)
    np.testing.assert_array_equal(found.items["two"][:], np.concatenate([rows[:, :132], rows[:, 1536:]], axis=1))


def test_a_drawn_signer_is_seen_and_an_empty_picture_is_zeros(expected: dict[str, Array]) -> None:
    for clip in CLIPS:
        assert seen(expected[clip], "pose").all()
        assert seen(expected[clip], "face").all()
    assert not expected["EMPTY/short"].any()
    assert not any(seen(expected["EMPTY/short"], part).any() for part in PARTS)


@pytest.mark.parametrize("frames", [1, 2, 30, 60])
def test_frames_are_pythons_round_for_every_length(frames: int) -> None:
    for length in range(1, 300):
        wanted = [round(i * (length - 1) / max(1, frames - 1)) for i in range(frames)]
        assert stage(frames=frames).select(length, 25.0).tolist() == wanted
    assert stage().select(0, 0.0).tolist() == []


def test_blocks_are_where_the_source_has_them() -> None:
    assert blocks() == {"pose": slice(0, 132), "face": slice(132, 1536), "left_hand": slice(1536, 1599), "right_hand": slice(1599, 1662)}
    assert stage().row_shape == (1662,)


@pytest.mark.parametrize(
    ("include", "parts", "width"),
    [
        ("pose,hands", ("pose", "left_hand", "right_hand"), 258),
        ("right_hand, pose", ("pose", "right_hand"), 195),
        (["hands", "left_hand"], ("left_hand", "right_hand"), 126),
        (("face",), ("face",), 1404),
    ],
)
def test_included_parts_keep_one_order_however_they_are_named(include: Any, parts: tuple[str, ...], width: int) -> None:
    made = stage(include=include)
    assert isinstance(made, holistic.Holistic)
    assert (made.include, made.row_shape) == (parts, (width,))
    assert blocks(made.include)[made.include[-1]].stop == width


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"include": "pose,hand"}, r"stage 'holistic': include=.*no part called 'hand'; did you mean 'hands'\? Parts: pose, face"),
        ({"include": ""}, r"stage 'holistic': include=.*it names no part; parts: pose, face, left_hand, right_hand, hands"),
        ({"frames": 0}, r"stage 'holistic': frames=0: Input should be greater than 0"),
        ({"tracking_confidence": 1.5}, r"stage 'holistic': tracking_confidence=1\.5: Input should be less than or equal to 1"),
    ],
)
def test_wrong_fields_are_one_line(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as told:
        stage(**fields)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("part", PARTS)
def test_one_value_that_is_not_zero_means_seen(part: holistic.Part) -> None:
    rows = np.zeros((3, 1662), np.float32)
    block = blocks()[part]
    rows[1, block.start], rows[2, block.stop - 1] = 1e-9, -1
    assert seen(rows, part).tolist() == [False, True, True]
    assert not any(seen(rows, other).any() for other in PARTS if other != part)
    assert seen(rows[:, block], part, [part]).tolist() == [False, True, True]


class Tracker:
    """Counts what is opened and closed in place of MediaPipe."""

    opened, closed = 0, 0

    def __init__(self, **_: Any) -> None:
        Tracker.opened += 1

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        Tracker.closed += 1

    def process(self, image: Array) -> Any:
        raise RuntimeError("the tracker broke")


def test_each_clip_has_a_tracker_of_its_own_that_is_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holistic, "_mediapipe", lambda: Tracker)
    for clip in range(3):
        with pytest.raises(RuntimeError, match="the tracker broke"):
            list(stage().prepare(iter([(np.zeros((8, 8, 3), np.uint8),)])))
        assert Tracker.opened == Tracker.closed == clip + 1


def test_frames_that_are_no_pictures_fail_the_clip_with_their_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "sensor.npy", np.zeros((20, 6), np.float32))
    (tmp_path / "spool").mkdir()
    found = prepare_clip(Job(0, "clip", {"holistic": stage()}, tmp_path / "spool", Stat(0, 0), 60.0, (tmp_path / "sensor.npy",)))
    assert found.failures == {"holistic": "landmarks need (H, W, 3) uint8 frames, these are (6,) float32"}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)


def test_mediapipes_chatter_is_silent_and_real_messages_are_not(corpus: Path) -> None:
    done = run(f"""if True:
        import os, sys
        import av, numpy as np
        from stages.holistic import Holistic
        def frames():
            for number in range(2):
                os.write(2, b"W0000 something.cc:1] a real warning\\n")
                print("from Python", file=sys.stderr)
                yield (images[number],)
        with av.open({str(corpus / (CLIPS[0] + ".mkv"))!r}) as container:
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        for _ in range(2):
            print(sum(row.any() for row in Holistic().prepare(frames())))
        print("afterwards", file=sys.stderr)""")
    assert done.stdout.split() == ["2", "2"]
    lines = done.stderr.splitlines()  # native lines pass through a pipe, so their place among Python's is not fixed
    assert sorted(lines) == ["W0000 something.cc:1] a real warning"] * 4 + ["afterwards"] + ["from Python"] * 4


def test_a_warning_that_comes_amid_the_chatter_is_heard() -> None:
    done = run("""if True:
        import os
        from pipeline.decoding.quiet import without_noise
        with without_noise():
            for part in (b"INFO: ", b"W0000 one.cc:1] a real warning\\n", b"Created TensorFlow Lite XNNPACK delegate for CPU.", b"\\n"):
                os.write(2, part)""")
    assert done.stderr.splitlines() == ["W0000 one.cc:1] a real warning"]


def test_threads_may_leave_the_silence_in_any_order() -> None:
    done = run("""if True:
        import os
        from pipeline.decoding.quiet import without_noise
        one, two = without_noise(), without_noise()
        one.__enter__(), two.__enter__()
        one.__exit__(None, None, None)
        os.write(2, b"INFO: Created TensorFlow Lite delegate for GPU.\\nstill heard\\n")
        two.__exit__(None, None, None)
        os.write(2, b"INFO: of somebody else\\n")""")
    assert done.stderr.splitlines() == ["still heard", "INFO: of somebody else"]


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """Whatever a test does, standard error is the process' own afterwards."""
    from pipeline.decoding import quiet

    yield
    assert quiet._inside == []
