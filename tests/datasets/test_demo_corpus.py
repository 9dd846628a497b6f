"""The corpus that makes itself: one movement of the arms a clip, told alike by camera, radars and wrist sensor."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.datasets import demo
from pipeline.datasets._drawing.body import CAMERA_HZ, TICK_HZ, Motion
from pipeline.datasets._drawing.clip import clip_media, clip_motion, make_clip
from pipeline.datasets._drawing.glosses import GLOSSES
from pipeline.datasets._drawing.inertial import GRAVITY, SENSOR_HZ, track, turning, wrist_axes
from pipeline.datasets._drawing.radar import DOPPLERS, FASTEST, NEAREST, RADAR_HZ, RANGE_STEP, RANGES, RECEIVERS, maps, scatterers, seen
from pipeline.datasets._drawing.signers import SIGNERS
from pipeline.errors import UserError

CLIPS = [("HELLO", "signer1", 1), ("RAIN", "signer3", 2), ("LOOK", "signer5", 3), ("BOOK", "signer2", 1)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of `CLIPS`, made through the pool of processes."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_clips", lambda: CLIPS)
        assert demo.make_missing(folder) == len(CLIPS)
    return folder


@pytest.fixture
def few(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, listed as the whole corpus."""
    monkeypatch.setattr(demo, "_clips", lambda: CLIPS)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != ".making.lock"}


def stamps(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("signer*")}


def decoded(path: Path, colours: str) -> tuple[NDArray[np.uint8], float]:
    """All frames of a video, and its rate."""
    import av

    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        return np.stack([frame.to_ndarray(format=colours) for frame in container.decode(video=0)]).astype(np.uint8), float(rate)


def wrist_speed(motion: Motion) -> NDArray[np.float64]:
    """(T,) metres a second of the right wrist."""
    return np.asarray(np.linalg.norm(np.gradient(motion.right.wrist, 1 / TICK_HZ, axis=0), axis=1))


def test_there_are_fifteen_clips_of_each_of_eight_glosses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "make_missing", lambda root: 0)
    samples = list(demo.dataset.samples(tmp_path))
    assert len(samples) == len({sample.id for sample in samples}) == 120
    assert set(Counter(sample.label for sample in samples).values()) == {15}
    assert demo.dataset.classes({str(sample.label) for sample in samples}) == sorted(GLOSSES)
    assert all(sample.media["rgb"] == (f"{sample.id}.mkv",) for sample in samples)


def test_a_signer_is_in_one_split_only_and_each_split_has_every_gloss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "make_missing", lambda root: 0)
    samples = list(demo.dataset.samples(tmp_path))
    split_of = {(sample.signer, sample.split) for sample in samples}
    assert Counter(split for _, split in split_of) == {"train": 3, "val": 1, "test": 1}
    for split in ("train", "val", "test"):
        assert {sample.label for sample in samples if sample.split == split} == set(GLOSSES)


def test_every_listed_file_exists_and_nothing_else_is_left_behind(few: Path) -> None:
    listed = {path for sample in demo.dataset.samples(few) for paths in sample.media.values() for path in paths}
    assert listed == set(contents(few))
    assert len(listed) == 5 * len(CLIPS)


def test_a_clip_made_alone_equals_the_one_made_with_the_corpus(root: Path, tmp_path: Path) -> None:
    make_clip(tmp_path, *CLIPS[2])
    together = contents(root)
    alone = contents(tmp_path)
    assert len(alone) == 5
    assert {path: data == together[path] for path, data in alone.items()} == dict.fromkeys(alone, True)


def test_two_repetitions_of_a_signer_differ() -> None:
    first, second = (clip_motion("HELLO", "signer1", repetition) for repetition in (1, 2))
    shortest = min(first.ticks, second.ticks)
    assert np.abs(first.right.wrist[:shortest] - second.right.wrist[:shortest]).max() > 0.02


def test_after_an_interruption_only_what_is_missing_is_made(few: Path) -> None:
    before, stamped = contents(few), stamps(few)
    lost = {"HELLO/signer1_rep1_RDM2.mp4", "RAIN/signer3_rep2_inertial.npy"}
    for path in lost:
        (few / path).unlink()
    (few / "HELLO" / ".signer1_rep1_RDM2.mp4.part").write_bytes(b"half a file")
    assert demo.make_missing(few) == 2
    assert contents(few) == before
    assert {path for path, stamp in stamps(few).items() if stamp != stamped[path]} == lost


def test_a_complete_corpus_is_listed_without_making_or_locking_anything(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_make", lambda *_: pytest.fail("nothing was missing"))
    stamped = stamps(few)
    assert demo.make_missing(few) == 0
    assert stamps(few) == stamped


def test_without_a_terminal_every_tenth_of_the_clips_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with demo._progress(25, tmp_path) as advance:
        for _ in range(25):
            advance()
    said = capsys.readouterr().err.splitlines()
    tenths = (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)
    assert said[0] == f"demo: making 25 clips in {tmp_path}"
    assert [line.partition(" in ")[0] for line in said[1:]] == [f"demo: made {made} of 25 clips" for made in tenths]


def test_a_part_of_the_picture_is_blurred_as_the_whole_would_be() -> None:
    """Only what was painted is drawn at the final size in every picture."""
    from pipeline.datasets._drawing.canvas import Canvas
    from pipeline.datasets._drawing.figure import _softened, _wall, paint, seen

    for clip in CLIPS:
        motion, signer = clip_motion(*clip), SIGNERS[clip[1]]
        wall, soft_wall = _wall(signer.look)
        canvas = Canvas(wall, signer)
        for tick in (0, motion.ticks // 2):
            canvas.wipe()
            paint(canvas, motion, signer, tick)
            assert np.array_equal(seen(canvas, soft_wall), _softened(canvas.image))
        canvas.wipe()
        assert np.array_equal(canvas.image, wall)


def test_a_root_that_cannot_be_written_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"^cannot write the demo corpus to .*file.*; name a writable folder with --root$"):
        list(demo.dataset.samples(tmp_path / "file"))


def test_naming_the_corpus_imports_neither_video_nor_pictures_nor_torch() -> None:
    code = "import sys, pipeline.datasets.demo; print([name for name in ('av', 'cv2', 'PIL', 'torch', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip[0])
def test_all_media_of_a_clip_last_equally_long_at_rates_of_their_own(root: Path, clip: tuple[str, str, int]) -> None:
    media = clip_media(*clip)
    motion = clip_motion(*clip)
    pictures, camera_hz = decoded(root / media["rgb"][0], "rgb24")
    assert (camera_hz, pictures.shape) == (CAMERA_HZ, (motion.pictures, 480, 640, 3))
    assert 30 <= len(pictures) <= 55
    for path in media["radar"]:
        shown, radar_hz = decoded(root / path, "gray")
        assert radar_hz == RADAR_HZ
        assert shown.shape[1:] == (RANGES, DOPPLERS)
        assert abs(len(shown) / radar_hz - motion.seconds) < 1 / radar_hz
    values = np.load(root / media["inertial"][0], allow_pickle=False)
    assert (values.dtype, values.shape[1]) == (np.float32, 6)
    assert abs(len(values) / SENSOR_HZ - motion.seconds) < 1 / SENSOR_HZ
    assert len({len(pictures), len(shown), len(values)}) == 3


@pytest.mark.parametrize("gloss", GLOSSES)
def test_arms_keep_their_length_and_hands_start_and_end_at_rest(gloss: str) -> None:
    motion = clip_motion(gloss, "signer3", 1)
    for arm in (motion.right, motion.left):
        for upper, lower in ((arm.shoulder, arm.elbow), (arm.elbow, arm.wrist)):
            assert np.ptp(np.linalg.norm(upper - lower, axis=1)) < 0.002
        assert np.allclose((arm.fingers * arm.palm).sum(axis=1), 0, atol=1e-9)
    speed = wrist_speed(motion)
    assert max(speed[0], speed[-1]) < 0.15
    assert 0.8 < speed.max() < 4.5


@pytest.fixture(scope="module", params=["HELLO", "THANKS", "RAIN"])
def motion(request: pytest.FixtureRequest) -> Motion:
    return clip_motion(request.param, "signer1", 1)


def test_the_sensor_feels_one_g_at_rest_and_more_in_the_stroke(motion: Motion) -> None:
    values = track(motion, np.random.default_rng(0))
    felt = np.abs(np.linalg.norm(values[:, :3], axis=1) - 1)
    assert felt[:3].max() < 0.2
    assert felt.max() > 1.0


def test_what_the_sensor_feels_adds_up_to_the_velocity_of_the_wrist(motion: Motion) -> None:
    every = TICK_HZ // SENSOR_HZ
    values = track(motion, np.random.default_rng(0))
    axes = wrist_axes(motion.right)[::every][: len(values)]
    pushed = GRAVITY * (np.einsum("tij,ti->tj", axes, values[:, :3]) - (0.0, 1.0, 0.0))
    velocity = np.gradient(motion.right.wrist, 1 / TICK_HZ, axis=0)[::every][: len(values)]
    steps = np.diff(velocity, axis=0)
    for axis in range(3):
        assert np.corrcoef(pushed[1:, axis] + pushed[:-1, axis], steps[:, axis])[0, 1] > 0.8


def test_the_turning_rate_adds_up_to_how_the_wrist_turned(motion: Motion) -> None:
    axes = wrist_axes(motion.right)
    rates = np.deg2rad(turning(axes)) / TICK_HZ
    turned = axes[0]
    for x, y, z in rates:
        turned = (np.eye(3) - np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])) @ turned
    assert np.abs(turned / np.linalg.norm(turned, axis=1, keepdims=True) - axes[-1]).max() < 0.15


def test_the_radars_see_faster_hands_farther_from_the_zero_column(motion: Motion) -> None:
    signer = SIGNERS["signer1"]
    points, _ = scatterers(motion, signer)
    for number, shown in enumerate(maps(motion, signer, np.random.default_rng(0))):
        _, speed = seen(points, np.array(RECEIVERS[number]))
        ticks = np.minimum(np.arange(len(shown) * TICK_HZ // RADAR_HZ), motion.ticks - 1).reshape(len(shown), -1)
        fastest = np.abs(speed).max(axis=1)[ticks].max(axis=1)
        over_noise = shown.astype(int) - np.median(shown, axis=(1, 2), keepdims=True)
        widths = [np.abs(np.flatnonzero(row) - DOPPLERS // 2).max() for row in (over_noise > 50).any(axis=1)]
        assert np.corrcoef(fastest, widths)[0, 1] > 0.75


def test_noise_rises_and_falls_from_frame_to_frame_and_echoes_differ_by_signer() -> None:
    clip = clip_motion("HELLO", "signer1", 1)
    floors = np.median(maps(clip, SIGNERS["signer1"], np.random.default_rng(0)), axis=(2, 3))
    assert np.all(floors.std(axis=1) > 5), "of a receiver, in grays"
    assert np.ptp(floors, axis=1).max() > 30
    strong, weak = (scatterers(clip, SIGNERS[signer])[1].sum() for signer in ("signer2", "signer3"))
    assert 10 * np.log10(strong / weak) == pytest.approx(2.2)


def test_all_of_the_body_is_within_the_ranges_and_speeds_of_the_maps(motion: Motion) -> None:
    points, _ = scatterers(motion, SIGNERS["signer1"])
    for receiver in RECEIVERS:
        distance, speed = seen(points, np.array(receiver))
        assert distance.min() > NEAREST + 0.05
        assert distance.max() < NEAREST + RANGES * RANGE_STEP - 0.05
        assert np.abs(speed).max() < FASTEST


def test_receivers_at_different_places_see_different_maps() -> None:
    shown = maps(clip_motion("HELLO", "signer1", 1), SIGNERS["signer1"], np.random.default_rng(0)).astype(int)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (np.abs(shown[first] - shown[second]) > 60).mean() > 0.002


@pytest.mark.filterwarnings("ignore:SymbolDatabase")
def test_holistic_finds_the_pose_the_face_and_the_waving_hand(root: Path) -> None:
    holistic = pytest.importorskip("mediapipe").solutions.holistic
    pictures, _ = decoded(root / clip_media(*CLIPS[0])["rgb"][0], "rgb24")
    with holistic.Holistic(model_complexity=1) as model:
        found = [model.process(picture) for picture in pictures[10:30:2]]
    assert sum(result.pose_landmarks is not None for result in found) >= 9
    assert sum(result.face_landmarks is not None for result in found) >= 9
    assert sum(result.right_hand_landmarks is not None for result in found) >= 6
