"""Rows of hands, blazepose and pose_hands are those of MediaPipe called directly, each hand on its signer's own side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from pipeline import registry
from pipeline.cache import open_stage
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import ClipError, UserError
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.layouts import LANDMARKS, Layout
from pipeline.types import Array, Extractor
from stages import _solutions
from stages.hands import LEFT, NONE, RIGHT, Hand, by_name, distinct, hands_of
from stages.pose_hands import by_wrist
from tests.shared_data import shared

CLIP = "croatian_signs/bijelo/0000.mp4"
"""In it the signer's left hand rises from below the picture."""
STEP = 6
pytestmark = pytest.mark.filterwarnings("ignore:SymbolDatabase:UserWarning")


def stage(name: str, **fields: Any) -> Extractor:
    made: Extractor = registry.create("stage", name, fields)
    return made


@pytest.fixture(scope="module")
def images() -> list[Array]:
    with av.open(str(shared(CLIP))) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][::STEP]


def rows_of(name: str, images: list[Array], **fields: Any) -> Array:
    return np.stack(list(stage(name, **fields).prepare((image,) for image in images)))


@pytest.fixture(scope="module")
def found(images: list[Array]) -> list[tuple[Any, Any]]:
    """What MediaPipe's own solutions say of each frame of the clip."""
    _solutions._imported("hands", "Hands"), _solutions._imported("pose", "Pose")
    from mediapipe.python.solutions.hands import Hands
    from mediapipe.python.solutions.pose import Pose

    with Hands() as hands, Pose() as pose:
        return [(hands.process(image), pose.process(image)) for image in images]


def as_row(landmarks: Any, *axes: str) -> Array:
    return np.array([getattr(point, axis) for point in landmarks.landmark for axis in axes], np.float32)


@pytest.mark.parametrize(("coordinates", "kind"), [("image", "landmarks"), ("world", "world_landmarks")])
def test_rows_are_mediapipes_of_a_tracker_that_saw_this_clip_alone(
    images: list[Array], found: list[tuple[Any, Any]], coordinates: str, kind: str
) -> None:
    list(stage("blazepose").prepare((image,) for image in images[::-1]))  # another clip before
    bodies, hands = (rows_of(name, images, coordinates=coordinates) for name in ("blazepose", "hands"))
    for row, own, (said_hands, said_body) in zip(bodies, hands, found, strict=True):
        np.testing.assert_array_equal(row, as_row(getattr(said_body, f"pose_{kind}"), "x", "y", "z", "visibility"))
        every = [as_row(hand, "x", "y", "z") for hand in getattr(said_hands, f"multi_hand_{kind}") or ()]
        for side in (own[:63], own[63:]):
            assert not side.any() or any((side == hand).all() for hand in every)
        assert own.any() == bool(every)
    assert hands.any(axis=1).sum() >= 4


def test_what_mediapipe_calls_right_is_the_signers_left_hand(images: list[Array], found: list[tuple[Any, Any]]) -> None:
    names = {said.classification[0].label for hands, _ in found for said in hands.multi_handedness or ()}
    assert names == {"Right"}
    hands, bodies = rows_of("hands", images), rows_of("blazepose", images).reshape(-1, 33, 4)
    seen = hands[:, :63].any(axis=1)
    near, far = (np.linalg.norm(hands[seen, :2] - bodies[seen, wrist, :2], axis=1) for wrist in (15, 16))
    assert (near < far).all()


def test_pose_hands_has_the_rows_of_both_solutions_beside_one_another(images: list[Array]) -> None:
    both, body, hands = (rows_of(name, images) for name in ("pose_hands", "blazepose", "hands"))
    np.testing.assert_array_equal(both, np.concatenate([body, hands], 1))
    named = rows_of("pose_hands", images, sides="name")
    np.testing.assert_array_equal(named[:, 132:], hands)


def test_in_metres_a_hand_hangs_on_the_wrist_of_the_body(images: list[Array]) -> None:
    rows = rows_of("pose_hands", images, coordinates="world")
    body, hands = rows[:, :132].reshape(-1, 33, 4)[..., :3], rows_of("hands", images, coordinates="world")[:, :63].reshape(-1, 21, 3)
    left = rows[:, 132:195].reshape(-1, 21, 3)
    seen = left.any(axis=(1, 2))
    assert seen.sum() >= 4
    np.testing.assert_allclose(left[seen, 0], body[seen, 15], atol=1e-6)
    np.testing.assert_allclose(left[seen] - left[seen, :1], hands[seen] - hands[seen, :1], atol=1e-6)


def test_holistic_world_is_holistic_with_the_body_in_metres_behind(images: list[Array]) -> None:
    plain, world = (rows_of(name, images[:3], frames=3) for name in ("holistic", "holistic_world"))
    np.testing.assert_array_equal(world[:, :1662], plain)
    body = world[:, 1662:].reshape(-1, 33, 4)
    assert np.abs(body[:, 23:25, :3].mean(1)).max() < 0.03, "the middle of the hips is where metres are measured from"
    assert np.linalg.norm(body[:, 11, :3] - body[:, 12, :3], axis=1).min() > 0.2
    hands = rows_of("holistic_world", images[:1], frames=1, include="hands")
    assert hands.shape == (1, 126 + 132)


def test_kinematics_reads_what_the_engine_made_of_both_solutions(tmp_path: Path) -> None:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    (tmp_path / "root/SIGN").mkdir(parents=True)
    (tmp_path / "root/SIGN/clip.mp4").symlink_to(shared(CLIP))
    table = manifest.bind(home, "signs", corpus="folder", root=tmp_path / "root")
    derived = configure(home, table, "pose_hands", now={"rate_hz": 3})
    outcome = extract(home, table, [derived], Options(), Progress())
    assert (outcome.extracted, outcome.failed) == ({"pose_hands": 1}, {})
    groups = ("absolute", "angles", "motion", "shape", "trajectory")
    points = configure(home, table, "kinematics", now={"source": "stage:pose_hands", "groups": groups})
    extract(home, table, [points], Options(), Progress())
    rows, read = (
        open_stage("signs", name, cache=home.cache, manifests=home.manifests)["SIGN/clip"] for name in ("kinematics", "pose_hands")
    )
    assert rows.shape == (len(read), 126 + 78 + 252 + 4 + 30)
    assert (rows[:, :63].any(axis=1) == read[:, 132:195].any(axis=1)).all()


@pytest.mark.parametrize("name", ["hands", "blazepose", "pose_hands"])
def test_frames_are_taken_at_a_steady_rate(name: str) -> None:
    made = stage(name)
    assert made.select(60, 60.0).tolist() == list(range(0, 60, 2))
    assert made.select(30, 30.0).tolist() == list(range(30))
    slow = made.select(50, 25.0).tolist()
    assert (len(slow), sorted(set(slow))) == (60, list(range(50)))
    assert made.select(40, 0.0).tolist() == list(range(40))
    assert stage(name, rate_hz=0).select(40, 60.0).tolist() == list(range(40))
    assert made.select(0, 25.0).tolist() == []


@pytest.mark.parametrize("name", ["hands", "blazepose", "pose_hands"])
def test_wrong_frames_and_fields_are_said(name: str) -> None:
    with pytest.raises(ClipError, match=r"landmarks need \(H, W, 3\) uint8 frames, these are \(6,\) float32"):
        list(stage(name).prepare(iter([(np.zeros(6, np.float32),)])))
    with pytest.raises(UserError, match=rf"stage '{name}': coordinates='metres': Input should be 'image' or 'world'"):
        stage(name, coordinates="metres")
    with pytest.raises(UserError, match=rf"stage '{name}': tracking_confidence=2: Input should be less than or equal to 1"):
        stage(name, tracking_confidence=2)


def hand(side: int, sureness: float, x: float, y: float) -> Hand:
    points = np.full((21, 3), sureness, np.float32)
    return Hand(side, sureness, points, points, np.array([x, y]), palm=0.1)


def test_a_hand_found_twice_is_one_and_two_of_one_name_take_both_sides() -> None:
    surer, again, far, other = hand(LEFT, 0.9, 0, 0), hand(LEFT, 0.8, 0.05, 0), hand(LEFT, 0.7, 0.5, 0), hand(RIGHT, 0.6, 0.05, 0)
    assert distinct([again, surer]) == [surer]
    assert distinct([far, surer]) == [surer, far]
    assert distinct([other, surer]) == [surer, other]
    assert by_name([surer, far]) == {LEFT: surer, RIGHT: far}
    assert by_name([other]) == {RIGHT: other}
    assert by_name([]) == {}


def test_hands_go_to_the_nearer_wrists_whatever_they_are_called() -> None:
    wrists = np.array([[0.8, 0.5], [0.2, 0.5]])
    one, two = hand(LEFT, 0.9, 0.3, 0.5), hand(LEFT, 0.8, 0.25, 0.5)
    assert by_wrist([one], wrists) == {RIGHT: one}
    assert by_wrist([one, two], wrists) == {LEFT: one, RIGHT: two}, "of two the pairing that is nearer in all"
    assert by_wrist([], wrists) == {}


def test_distances_are_measured_as_the_picture_is_wide() -> None:
    points = [SimpleNamespace(x=0.5, y=0.25 + 0.01 * number, z=0.0) for number in range(21)]
    marks, said = SimpleNamespace(landmark=points), SimpleNamespace(label="Left", score=0.9)
    found = SimpleNamespace(
        multi_handedness=[SimpleNamespace(classification=[said])], multi_hand_landmarks=[marks], multi_hand_world_landmarks=[marks]
    )
    (read,) = hands_of(found, 16 / 9)
    assert (read.side, read.sureness) == (RIGHT, 0.9)
    np.testing.assert_allclose(read.wrist, [0.5 * 16 / 9, 0.25])
    assert read.palm == pytest.approx(0.09)


def test_what_rows_are_is_said_so_that_they_are_turned_only_where_that_means_something() -> None:
    assert stage("pose_hands").row_layout == stage("holistic", include="pose,hands").row_layout
    detected = stage("hands", order="detected").row_layout
    assert detected is not None
    assert [part.name for part in detected.parts] == ["hand1", "hand2"]
    for name, change in [("blazepose", "turn"), ("hands", "turn"), ("pose_hands", "turn")]:
        image, world = (stage(name, coordinates=coordinates).row_layout for coordinates in ("image", "world"))
        assert image is not None
        assert world is not None
        assert "fractions of the picture" in image.refusal(change)
        assert world.refusal(change) == ""
    both = stage("holistic_world").row_layout
    assert isinstance(both, Layout)
    assert both.parts[:-1] == tuple(LANDMARKS.values())
    assert NONE.shape == (63,)


class Breaking:
    """Counts what is opened and closed in place of MediaPipe's trackers, and breaks at the first frame."""

    opened, closed = 0, 0

    def __init__(self, **_: Any) -> None:
        Breaking.opened += 1

    def __enter__(self) -> Breaking:
        return self

    def __exit__(self, *_: object) -> None:
        Breaking.closed += 1

    def process(self, image: Array) -> Any:
        raise RuntimeError("the tracker broke")


@pytest.mark.parametrize(("name", "trackers"), [("hands", 1), ("blazepose", 1), ("pose_hands", 2)])
def test_each_clip_has_trackers_of_its_own_that_are_closed_whatever_happens(
    name: str, trackers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_solutions, "_imported", lambda solution, kind: Breaking)
    Breaking.opened = Breaking.closed = 0
    for clip in range(1, 4):
        with pytest.raises(RuntimeError, match="the tracker broke"):
            list(stage(name).prepare(iter([(np.zeros((8, 8, 3), np.uint8),)])))
        assert Breaking.opened == Breaking.closed == clip * trackers
